"""Memory for payloads that is used again and again: fresh pages cost about as much as the read itself."""

import weakref

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes at whose multiples a payload may start: those of its planes."""


class Buffers:
    """Lends memory; what nothing views any more is lent again.

    Whoever keeps a view, be it a memoryview or a tensor made of one, keeps its bytes: they never change under it.
    """

    def __init__(self) -> None:
        self._lent: list[tuple[Tensor, weakref.ref]] = []

    @property
    def held_bytes(self) -> int:
        """Bytes lent or ready to be lent."""
        return sum(arena.nbytes for arena, _ in self._lent)

    def lend(self, sizes: list[int]) -> list[memoryview]:
        """One writable, uninitialised buffer for each size in bytes, aligned and all of one arena."""
        starts = np.cumsum([0] + [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes])
        arena = self._arena(int(starts[-1]))
        whole = arena.numpy()[: starts[-1]]
        self._lent.append((arena, weakref.ref(whole)))
        return [whole.data[start : start + size] for start, size in zip(starts.tolist(), sizes, strict=False)]

    def _arena(self, num_bytes: int) -> Tensor:
        """The largest arena that is free, or a new one where it is too small; the other free ones are given back."""
        free = [arena for arena, view in self._lent if view() is None]
        self._lent = [(arena, view) for arena, view in self._lent if view() is not None]
        largest = max(free, key=lambda arena: arena.nbytes, default=None)
        if largest is not None and largest.nbytes >= num_bytes:
            return largest
        return torch.empty(num_bytes, dtype=torch.uint8)
