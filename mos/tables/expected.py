"""Keys that are expected to come, each once: told at once if one comes that was never asked for, or comes again."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mos.tables.key_columns import Keys, from_hex


class Expected(Protocol):
    """Keys that have not come yet."""

    def take(self, keys: Iterable[str]) -> None:
        """Note that keys have come; raises `RuntimeError` where one was not expected (any more)."""
        ...

    def __len__(self) -> int: ...


class NamedKeys:
    """Keys that are named as they are needed, in memory."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def name(self, keys: Iterable[str]) -> None:
        """Expect keys, too."""
        self._open |= set(keys)

    def take(self, keys: Iterable[str]) -> None:
        """Note that keys have come; raises `RuntimeError` where one was not expected (any more)."""
        for key in keys:
            if key not in self._open:
                raise unexpected(key)
            self._open.remove(key)

    def __len__(self) -> int:
        return len(self._open)


class SortedKeys:
    """Keys that are all known before, in files that are mapped: 32 bytes a key on disk, and a bit in memory."""

    def __init__(self, folder: Path, keys: Iterator[Keys]) -> None:
        """`keys` are ascending and distinct, and come in batches; they are written to `folder`."""
        paths = [folder / f"word{word}.u64" for word in range(4)]
        self._length = 0
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in paths]
            for batch in keys:
                self._length += len(batch)
                for word, file in enumerate(files):
                    file.write(batch[:, word].tobytes())
        self._words = [np.memmap(path, np.uint64, "r") for path in paths] if self._length else []
        self._came = np.zeros(-(-self._length // 8), np.uint8)
        self._num_open = self._length

    def take(self, keys: Iterable[str]) -> None:
        """Note that keys have come; raises `RuntimeError` where one was not expected (any more)."""
        named = list(keys)
        for key, words in zip(named, from_hex(pa.array(named, pa.string())), strict=True):
            place = self._find(words)
            if place is None or self._came[place >> 3] >> (place & 7) & 1:
                raise unexpected(key)
            self._came[place >> 3] |= 1 << (place & 7)
            self._num_open -= 1

    def _find(self, key: NDArray[np.uint64]) -> int | None:
        """Place of a key among all."""
        start, stop = 0, self._length
        for word, column in zip(key, self._words, strict=False):
            part = column[start:stop]
            start, stop = start + int(np.searchsorted(part, word)), start + int(np.searchsorted(part, word, "right"))
        return start if stop > start else None

    def __len__(self) -> int:
        return self._num_open


def unexpected(key: str) -> RuntimeError:
    """The error where a key comes that is not expected."""
    return RuntimeError(f"key {key} came twice or was never asked for: nothing of its fragment is kept")
