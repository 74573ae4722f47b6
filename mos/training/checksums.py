"""Checksums of files: taken while a file is written, compared when it is read."""

import hashlib
from pathlib import Path

from pydantic import Field

from mos.config import StrictConfig


class Checksum(StrictConfig):
    """Length and sha256 that a file has to have."""

    size: int = Field(ge=0)
    """Bytes."""
    sha256: str | None
    """64 hex digits; None where nobody took them."""

    @classmethod
    def of(cls, data: bytes) -> "Checksum":
        """Of a file that holds these bytes."""
        return cls(size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def differs_in_size(self, path: Path) -> str | None:
        """Fault that the file's length shows, or None."""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be looked at ({error})"
        return None if size == self.size else f"has {size} bytes instead of {self.size}"

    def differs(self, path: Path) -> str | None:
        """Fault that reading the whole file shows, or None; reads nothing where there is no sha256."""
        wrong = self.differs_in_size(path)
        if wrong is not None or self.sha256 is None:
            return wrong
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return None if digest == self.sha256 else "does not have the sha256 it was written with"
