"""Columns of numbers, or of records of them, in files of their own: written from batches, mapped rather than read."""

from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class ColumnWriter:
    """One column, written a batch at a time as an `.npy` file; a context manager, the file is whole when it is left."""

    def __init__(self, path: Path, kind: np.dtype) -> None:
        self._kind = kind
        self._length = 0
        self._file: BufferedWriter = path.open("wb")
        self._head()

    def add(self, values: NDArray) -> None:
        """Append values."""
        self._file.write(values.astype(self._kind, copy=False).tobytes())
        self._length += len(values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.seek(0)
        self._head()  # numpy leaves room for a length of any number of digits
        self._file.close()

    def _head(self) -> None:
        described = {
            "descr": np.lib.format.dtype_to_descr(self._kind),
            "fortran_order": False,
            "shape": (self._length,),
        }
        np.lib.format.write_array_header_1_0(self._file, described)


def new_column(path: Path, length: int, kind: type[np.generic]) -> NDArray[Any]:
    """A column of a given length, at least 1, to be filled in any order."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(length,))


def map_column(path: Path) -> NDArray[Any]:
    """A column, read-only: what of it is looked at comes from the file, and is shared with all who map it."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
