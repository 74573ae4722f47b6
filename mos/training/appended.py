"""Bytes appended to a file of a running stage, for which a full disk is no reason to stop."""

from pathlib import Path


class AppendedFile:
    """Keeps what a disk takes none of at the moment, and writes it when there is room."""

    def __init__(self, path: Path) -> None:
        """Nothing is written or made before the first bytes come."""
        self._path = path
        self._unwritten = b""

    def add(self, data: bytes) -> None:
        """Append; it is on disk when this returns, if there is room."""
        self._unwritten += data
        self.flush()

    def flush(self) -> None:
        """Try again to write what could not be written."""
        if not self._unwritten:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                while self._unwritten:
                    self._unwritten = self._unwritten[file.write(self._unwritten) :]
        except OSError:
            return
