"""Passes of a codec within a number of bytes: as many pictures at a time as fit, and strips of one that does not.

How much a pass holds is found without running it, see `mos.peak_memory`.
"""

import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mos.errors import UserError
from mos.peak_memory import peak_bytes

WORKSPACE = 1.25
"""What a pass takes against what its tensors hold: kernels keep copies in layouts of their own, allocators leave gaps.
On a CPU a pass takes 1.03 of it (`tests/benchmarks/full_size.py`)."""
SURELY_BYTES = 16 * 2**10
"""Of a pixel: no autoencoder that is known takes as much, so a small batch is one pass without being looked at."""

Work = Callable[[Tensor, int | None], Tensor]
"""(some of the pictures, rows of a strip or None) -> what the codec makes of them."""


class PassWarning(UserWarning):
    """A pass did not fit into the memory of its device, and the next ones are smaller."""


class Cut(NamedTuple):
    """One pass."""

    pictures: int
    rows: int | None
    """Of a strip; None: whole pictures."""


class PassBudget:
    """Cuts batches of pictures into passes of at most so many bytes, weights not counted."""

    def __init__(self, num_bytes: int, device: torch.device | str = "cpu") -> None:
        self._num_bytes = num_bytes
        self._device = torch.device(device)
        self._cuts: dict[Hashable, Cut] = {}

    def run(self, work: Work, pictures: Tensor, pixels: int, strips: Sequence[int | None] = (None,)) -> Tensor:
        """Work on all pictures, pass by pass; the result is on the CPU, and the same whatever the cut, to rounding.

        Args:
            work: moves its pictures to the device itself.
            pictures: one or more, of one size [batch, ...].
            pixels: of one picture, or of what it decodes to.
            strips: heights that one picture may be cut into, the largest first; None is the whole picture.

        Raises:
            UserError: a pass of one picture, in the smallest strips, has no room on the device.

        Warns:
            PassWarning: memory ran out, and the passes are halved from here on.
        """
        kind = (work.__name__, tuple(pictures.shape[1:]))
        parts: list[Tensor] = []
        start = 0
        while start < len(pictures):
            left = pictures[start:]
            cut = self._cuts.get(kind)
            if cut is None and len(left) * pixels * SURELY_BYTES <= self._num_bytes:
                cut = Cut(len(left), None)
            elif cut is None:
                cut = self._cuts[kind] = self._largest(work, left[:1], strips)
            made = _run(work, left[: cut.pictures], cut.rows)
            if made is None:
                self._halve(cut, strips)
                continue
            parts.append(made)
            start += cut.pictures
        return torch.cat(parts)

    def _largest(self, work: Work, picture: Tensor, strips: Sequence[int | None]) -> Cut:
        """The largest pass within the budget; where none is, the smallest there is."""
        for rows in strips:
            needed = WORKSPACE * peak_bytes(partial(_without_values, work, picture, rows))
            if needed <= self._num_bytes:
                return Cut(int(self._num_bytes // needed) if rows is None else 1, rows)
        return Cut(1, strips[-1])

    def _halve(self, cut: Cut, strips: Sequence[int | None]) -> None:
        if cut == Cut(1, strips[-1]):
            raise UserError(
                f"one picture at a time does not fit into the memory of {self._device}: take smaller pictures, or a "
                "device with more memory free"
            )
        self._num_bytes //= 2
        self._cuts.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"a pass of {cut.pictures} pictures did not fit into the memory of {self._device}: passes take "
            f"{self._num_bytes / 2**20:.0f} MiB from here on",
            PassWarning,
            stacklevel=3,
        )


def _run(work: Work, pictures: Tensor, rows: int | None) -> Tensor | None:
    """What the work makes, on the CPU; None where memory runs out, and what it held is let go."""
    try:
        return work(pictures, rows).cpu()
    except torch.OutOfMemoryError:
        return None


def _without_values(work: Work, picture: Tensor, rows: int | None) -> Tensor:
    return work(torch.empty(picture.shape, dtype=picture.dtype), rows)
