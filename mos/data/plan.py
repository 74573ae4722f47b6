"""The batch plan: which rows of the tables make up every global batch, as a pure function of seed and epoch.

How rows become batches:

1. A *cell* is the rows of one source in one bucket. Its rows are drawn in endless passes; a pass is a seeded
   permutation, so no row comes a second time before every other row of its cell came once more.
2. An epoch takes its share of each cell's stream: `n` draws for a cell of `n` rows, or `n * weight` where sources
   are mixed by ratio. Without ratios an epoch therefore draws every row exactly once.
3. The draws of all cells of a bucket, shuffled within the epoch, line up in the bucket's queue, epoch behind
   epoch. The queue is cut into batches; a batch belongs to the epoch that fills it. The fewer than `batch_size`
   draws that are left wait at the head of the bucket's queue for the next epoch: carried, never dropped.
4. The batches of an epoch are shuffled over the buckets.

Nothing is remembered between epochs: what is carried into an epoch is computed from the epochs before it, so any
epoch is planned at once. The plan does not know how many ranks there are: each takes its slice of every batch.
Row order follows numpy's Philox and `permutation`; it is the same on every machine with the same numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.signedinteger]

_PASS, _MIX, _BATCHES = range(3)
"""What a random stream is for; part of its key."""


@dataclass(frozen=True, eq=False)
class Cell:
    """The rows of one source in one bucket."""

    source: int
    bucket: int
    rows: Rows
    """Row numbers, ascending, at least one."""
    draws_per_epoch: Fraction
    """Expected draws in an epoch; exact, so that shares never drift."""

    def drawn(self, epoch: int) -> int:
        """Draws before this epoch begins."""
        return int(epoch * self.draws_per_epoch)


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The global batches of one epoch, in training order."""

    rows: Rows
    """Row numbers [batches, batch_size]; rank r of w takes columns [r * batch_size / w, (r + 1) * batch_size / w)."""
    buckets: NDArray[np.int32]
    """Bucket of each batch [batches]."""

    def __len__(self) -> int:
        return len(self.buckets)


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """All epochs of one stage."""

    cells: tuple[Cell, ...]
    batch_size: int
    seed: int

    @cached_property
    def buckets(self) -> dict[int, tuple[Cell, ...]]:
        """Cells by bucket, in ascending order of bucket and source."""
        numbers = sorted({cell.bucket for cell in self.cells})
        return {number: tuple(cell for cell in self.cells if cell.bucket == number) for number in numbers}

    def first_step(self, epoch: int) -> int:
        """Batches of all epochs before this one."""
        return sum(_drawn(cells, epoch) // self.batch_size for cells in self.buckets.values())

    def locate(self, step: int) -> tuple[int, int]:
        """The epoch of a step counted from the start of training, and its place there; no epoch is planned for it.

        Raises:
            ValueError: no cell is ever drawn from.
        """
        if not any(cell.draws_per_epoch for cell in self.cells):
            raise ValueError("the plan has no rows")
        above = 1
        while self.first_step(above) <= step:
            above *= 2
        below = 0  # first_step(below) <= step < first_step(above)
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (middle, above) if self.first_step(middle) <= step else (below, middle)
        return below, step - self.first_step(below)

    def epoch(self, epoch: int) -> EpochPlan:
        """Plan one epoch."""
        parts = {bucket: self._batches(bucket, epoch) for bucket in self.buckets}
        rows = np.concatenate(list(parts.values()))
        buckets = np.repeat(np.array(list(parts), dtype=np.int32), [len(part) for part in parts.values()])
        order = _stream(self.seed, _BATCHES, epoch).permutation(len(rows))
        return EpochPlan(rows[order], buckets[order])

    def waiting(self, bucket: int, epoch: int) -> Rows:
        """Rows carried into an epoch: drawn before it, in no batch yet; fewer than `batch_size`."""
        missing = _drawn(self.buckets[bucket], epoch) % self.batch_size
        parts = [self.cells[0].rows[:0]]
        while missing:
            epoch -= 1
            draws = self._draws(bucket, epoch)
            parts.append(draws[max(0, len(draws) - missing) :])
            missing -= len(parts[-1])
        return np.concatenate(parts[::-1])

    def _batches(self, bucket: int, epoch: int) -> Rows:
        """Batches [batches, batch_size] that a bucket fills in an epoch."""
        queue = np.concatenate([self.waiting(bucket, epoch), self._draws(bucket, epoch)])
        full = len(queue) // self.batch_size
        return queue[: full * self.batch_size].reshape(full, self.batch_size)

    def _draws(self, bucket: int, epoch: int) -> Rows:
        """What a bucket's queue grows by in an epoch."""
        cells = self.buckets[bucket]
        draws = np.concatenate([_cell_draws(cell, self.seed, epoch) for cell in cells])
        if len(cells) == 1:
            return draws
        return draws[_stream(self.seed, _MIX, epoch, bucket).permutation(len(draws))]


def make_plan(
    bucket: NDArray[np.integer],
    source: NDArray[np.integer],
    *,
    batch_size: int,
    seed: int,
    ratios: Mapping[int, float] | None = None,
) -> BatchPlan:
    """Group the rows of a view into cells.

    Args:
        bucket: bucket number of each row, below 2^15.
        source: source number of each row, below 2^15.
        batch_size: rows of a global batch.
        seed: seed of every order.
        ratios: mixing ratio of each source, of any scale; sources without one are left out. The length of an epoch
            stays the number of rows of the sources taking part. None: every source, as large as it is.
    """
    row_type = np.int32 if len(bucket) < 2**31 else np.int64
    code = source.astype(np.int32) << 15 | bucket.astype(np.int32)
    order = np.argsort(code, kind="stable").astype(row_type)
    codes, starts = np.unique(code[order], return_index=True)
    weights = _weights(source, ratios)
    cells = tuple(
        Cell(int(number >> 15), int(number & 0x7FFF), rows, len(rows) * weights[int(number >> 15)])
        for number, rows in zip(codes, np.split(order, starts[1:]), strict=False)
        if int(number >> 15) in weights
    )
    return BatchPlan(cells, batch_size, seed)


def _weights(source: NDArray[np.integer], ratios: Mapping[int, float] | None) -> dict[int, Fraction]:
    """Draws per row and epoch of every source that takes part."""
    numbers, counts = np.unique(source, return_counts=True)
    sizes = {int(number): int(count) for number, count in zip(numbers, counts, strict=True)}
    if ratios is None:
        return dict.fromkeys(sizes, Fraction(1))
    shares = {number: Fraction(str(ratios[number])) for number in sizes if number in ratios}
    total_rows = sum(sizes[number] for number in shares)
    total_share = sum(shares.values(), Fraction(0))
    return {number: share / total_share * total_rows / sizes[number] for number, share in shares.items()}


def _drawn(cells: tuple[Cell, ...], epoch: int) -> int:
    return sum(cell.drawn(epoch) for cell in cells)


def _cell_draws(cell: Cell, seed: int, epoch: int) -> Rows:
    """What an epoch takes from a cell's endless passes."""
    start, end = cell.drawn(epoch), cell.drawn(epoch + 1)
    size = len(cell.rows)
    parts = [cell.rows[:0]]
    for number in range(start // size, -(-end // size)):
        order = _stream(seed, _PASS, number, cell.source, cell.bucket).permutation(cell.rows)
        parts.append(order[max(0, start - number * size) : end - number * size])
    return np.concatenate(parts)


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))
