"""Notices of a running stage to its user: every rank appends lines to a file of its own, the driver prints them."""

import os
from pathlib import Path

import torch.distributed as dist

from mos.training.appended import AppendedFile


class Notices:
    """The lines of one rank; a disk that takes none at the moment gets them later."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the stage's."""
        self._file = AppendedFile(folder / "notices" / f"rank-{dist.get_rank():05d}.log")

    def say(self, text: str) -> None:
        """Add one line."""
        self._file.add(f"{' '.join(text.split())}\n".encode())

    def flush(self) -> None:
        """Try again to write what could not be written."""
        self._file.flush()


class NewNotices:
    """Lines that came since the last look, from any rank."""

    def __init__(self, folder: Path) -> None:
        """Lines that `folder`, the stage's, holds by now are old."""
        self._folder = folder / "notices"
        self._read: dict[Path, int] = {}
        self.take()

    def take(self) -> list[str]:
        """Each line once, rank by rank; one that is still being written comes next time."""
        return [line for path in sorted(self._folder.glob("rank-*.log")) for line in self._rest(path)]

    def _rest(self, path: Path) -> list[str]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0), os.SEEK_SET)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            return []
        self._read[path] = self._read.get(path, 0) + len(whole) + 1
        return whole.decode().splitlines()
