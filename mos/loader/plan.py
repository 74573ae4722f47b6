"""The batch plan: which rows of the tables make up every global batch, as a pure function of seed and epoch.

How rows become batches:

1. A *cell* is the rows of one source in one bucket. Its rows are drawn in endless passes; a pass is a seeded
   permutation, so no row comes a second time before every other row of its cell came once more.
2. An epoch takes its share of each cell's stream: `n` draws for a cell of `n` rows, or `n * weight` where sources
   are mixed by ratio. Without ratios an epoch therefore draws every row exactly once.
3. The draws of all cells of a bucket, each cell's in its order and the cells interleaved at random, line up in the
   bucket's queue, epoch behind epoch. The queue is cut into batches; a batch belongs to the epoch that fills it. The
   fewer than `batch_size` draws that are left wait at the head of the bucket's queue for the next epoch: carried,
   never dropped.
4. The batches of an epoch are shuffled over the buckets.

An epoch's order is held whole: 4 bytes a row, and up to 7 more while it is made where a bucket has several sources.
The rows of the cells may be mapped from a file that the ranks of a node share.

Nothing is remembered between epochs: what is carried into an epoch is computed from the ends of the epochs before it,
so any epoch is planned at once. The plan does not know how many ranks there are: each takes its slice of every batch.
Row order follows numpy's Philox and `permutation`; it is the same on every machine with the same numpy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mos.loader.cells import CellRows, Rows

_PASS, _MIX, _BATCHES = range(3)
"""What a random stream is for; part of its key."""

SHORT_END = 32
"""The end of a permutation is computed alone where it is at most so small a share of it: a step in Python takes as long
as about 30 of numpy's."""


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

    queues: tuple[Rows, ...]
    """Row numbers of each bucket's batches [batches, batch_size], before they are shuffled over the buckets."""
    order: NDArray[np.int64]
    """Training order [batches]: numbers into the batches of all queues, one queue behind the other."""
    buckets: NDArray[np.int32]
    """Bucket of each batch [batches]."""

    def __len__(self) -> int:
        return len(self.order)

    def batch(self, position: int) -> Rows:
        """Row numbers [batch_size] of one batch; rank r of w takes [r * batch_size / w, (r + 1) * batch_size / w)."""
        number = int(self.order[position])
        for queue in self.queues:
            if number < len(queue):
                return queue[number]
            number -= len(queue)
        raise IndexError(f"batch {position} of an epoch of {len(self)}")

    @property
    def rows(self) -> Rows:
        """Row numbers of all batches [batches, batch_size], copied."""
        return np.concatenate(self.queues)[self.order]


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """All epochs of one stage."""

    cells: tuple[Cell, ...]
    batch_size: int
    seed: int
    steps_before: int = 0
    """Steps of a stage that are no part of the plan, counted before its epoch 0; negative where it begins later."""

    def beginning(self, epoch: int, step: int) -> "BatchPlan":
        """The same plan from an epoch on, which begins at this step of the stage."""
        return replace(self, steps_before=self.steps_before + step - self.first_step(epoch))

    @cached_property
    def buckets(self) -> dict[int, tuple[Cell, ...]]:
        """Cells by bucket, in ascending order of bucket and source."""
        numbers = sorted({cell.bucket for cell in self.cells})
        return {number: tuple(cell for cell in self.cells if cell.bucket == number) for number in numbers}

    def first_step(self, epoch: int) -> int:
        """Steps of the stage before this epoch."""
        return self.steps_before + sum(_drawn(cells, epoch) // self.batch_size for cells in self.buckets.values())

    def locate(self, step: int) -> tuple[int, int]:
        """The epoch of a step counted from the start of training, and the step within it; no epoch is planned for it.

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
        queues = {bucket: self._batches(bucket, epoch) for bucket in self.buckets}
        buckets = np.repeat(np.array(list(queues), dtype=np.int32), [len(queue) for queue in queues.values()])
        order = _stream(self.seed, _BATCHES, epoch).permutation(len(buckets))
        return EpochPlan(tuple(queues.values()), order, buckets[order])

    def waiting(self, bucket: int, epoch: int) -> Rows:
        """Rows carried into an epoch: drawn before it, in no batch yet; fewer than `batch_size`."""
        missing = _drawn(self.buckets[bucket], epoch) % self.batch_size
        parts = [self.cells[0].rows[:0]]
        while missing:
            epoch -= 1
            parts.append(self._last_draws(bucket, epoch, missing))
            missing -= len(parts[-1])
        return np.concatenate(parts[::-1])

    def _batches(self, bucket: int, epoch: int) -> Rows:
        """Batches [batches, batch_size] that a bucket fills in an epoch."""
        waiting, cells = self.waiting(bucket, epoch), self.buckets[bucket]
        queue = np.empty(len(waiting) + _drawn(cells, epoch + 1) - _drawn(cells, epoch), waiting.dtype)
        queue[: len(waiting)] = waiting
        self._draw(bucket, epoch, queue[len(waiting) :])
        full = len(queue) // self.batch_size
        return queue[: full * self.batch_size].reshape(full, self.batch_size)

    def _draw(self, bucket: int, epoch: int, draws: Rows) -> None:
        """Fill in the samples that a bucket's queue grows by in an epoch."""
        cells = self.buckets[bucket]
        if len(cells) == 1:
            _draw_cell(cells[0], self.seed, epoch, draws)
            return
        sizes = [cell.drawn(epoch + 1) - cell.drawn(epoch) for cell in cells]
        cell_of = np.repeat(np.arange(len(cells), dtype=np.int16), sizes)
        _stream(self.seed, _MIX, epoch, bucket).shuffle(cell_of)
        for number, (cell, size) in enumerate(zip(cells, sizes, strict=True)):
            of_cell = np.empty(size, draws.dtype)
            _draw_cell(cell, self.seed, epoch, of_cell)
            draws[cell_of == number] = of_cell

    def _last_draws(self, bucket: int, epoch: int, count: int) -> Rows:
        """The end of what `_draw` fills in: its last `count`, or all where there are fewer."""
        cells = self.buckets[bucket]
        sizes = [cell.drawn(epoch + 1) - cell.drawn(epoch) for cell in cells]
        count = min(count, sum(sizes))
        if count * SHORT_END > sum(sizes):
            draws = np.empty(sum(sizes), cells[0].rows.dtype)
            self._draw(bucket, epoch, draws)
            return draws[sum(sizes) - count :]
        if len(cells) == 1:
            return _last_cell_draws(cells[0], self.seed, epoch, count)
        positions = permutation_end(_stream(self.seed, _MIX, epoch, bucket), sum(sizes), count)
        cell_of = np.searchsorted(np.cumsum(sizes), positions, side="right")
        counts = np.bincount(cell_of, minlength=len(cells)).tolist()
        ends = [_last_cell_draws(cell, self.seed, epoch, part) for cell, part in zip(cells, counts, strict=True)]
        return _interleave(cell_of, ends)


class OneEpoch:
    """The last epoch that was asked for; it goes before another one is made, or two would be in memory."""

    def __init__(self) -> None:
        self._held: tuple[BatchPlan, int, EpochPlan] | None = None

    def of(self, plan: BatchPlan, epoch: int) -> EpochPlan:
        """An epoch of a plan."""
        if self._held is None or self._held[0] is not plan or self._held[1] != epoch:
            self._held = None
            self._held = plan, epoch, plan.epoch(epoch)
        return self._held[2]


def make_plan(rows: CellRows, *, batch_size: int, seed: int, ratios: Mapping[int, float] | None = None) -> BatchPlan:
    """The plan of a view's rows.

    Args:
        rows: the view.
        batch_size: rows of a global batch.
        seed: seed of every order.
        ratios: mixing ratio of each source, of any scale; sources without one are left out. The length of an epoch
            stays the number of rows of the sources taking part. None: every source, as large as it is.
    """
    weights = _weights(rows.cells, ratios)
    ends = np.cumsum(rows.cells[:, 2]).tolist()
    cells = tuple(
        Cell(source, bucket, rows.rows[end - size : end], size * weights[source])
        for end, (source, bucket, size) in zip(ends, rows.cells.tolist(), strict=True)
        if source in weights
    )
    return BatchPlan(cells, batch_size, seed)


def _weights(cells: NDArray[np.int64], ratios: Mapping[int, float] | None) -> dict[int, Fraction]:
    """Draws per row and epoch of every source that takes part."""
    sizes: dict[int, int] = {}
    for source, _, size in cells.tolist():
        sizes[source] = sizes.get(source, 0) + size
    if ratios is None:
        return dict.fromkeys(sizes, Fraction(1))
    shares = {number: Fraction(str(ratios[number])) for number in sizes if number in ratios}
    total_rows = sum(sizes[number] for number in shares)
    total_share = sum(shares.values(), Fraction(0))
    return {number: share / total_share * total_rows / sizes[number] for number, share in shares.items()}


def _drawn(cells: tuple[Cell, ...], epoch: int) -> int:
    return sum(cell.drawn(epoch) for cell in cells)


def permutation_end(rng: np.random.Generator, size: int, count: int) -> NDArray[np.int64]:
    """The last `count` of `rng.permutation(size)`, in time and memory of `count`; size is at most 2^32.

    numpy shuffles from the end: step i = size - 1, size - 2, ... swaps position i with a position up to it, drawn as 32
    random bits cut to the width of i and drawn again where that is more than i. Place i is never touched again.
    """
    bits = _words(rng)
    moved: dict[int, int] = {}
    for position in range(size - 1, max(size - 1 - count, 0), -1):
        mask = (1 << position.bit_length()) - 1
        partner = next(bits) & mask
        while partner > position:
            partner = next(bits) & mask
        moved[position], moved[partner] = moved.get(partner, partner), moved.get(position, position)
    return np.array([moved.get(position, position) for position in range(size - count, size)], dtype=np.int64)


def _words(rng: np.random.Generator) -> Iterator[int]:
    """Endless 32-bit words of a generator."""
    while True:
        yield from rng.integers(0, 2**32, 4096, dtype=np.uint32).tolist()


def _interleave(cell_of: NDArray[np.integer], draws: Sequence[Rows]) -> Rows:
    """Row numbers of which each comes from the cell named in its place, every cell in its own order."""
    rows = np.empty(len(cell_of), dtype=draws[0].dtype)
    for number, part in enumerate(draws):
        rows[cell_of == number] = part
    return rows


def _draw_cell(cell: Cell, seed: int, epoch: int, draws: Rows) -> None:
    """Fill in the range that an epoch takes from a cell's endless passes."""
    start, end = cell.drawn(epoch), cell.drawn(epoch + 1)
    size = len(cell.rows)
    for number in range(start // size, -(-end // size)):
        first, last = max(start, number * size), min(end, (number + 1) * size)
        part = draws[first - start : last - start]
        if len(part) == size:  # in place, as `_of_pass` would, which copies
            part[:] = cell.rows
            _pass_stream(cell, seed, number).shuffle(part)
        else:
            part[:] = _of_pass(cell, seed, number, first - number * size, last - number * size)


def _last_cell_draws(cell: Cell, seed: int, epoch: int, count: int) -> Rows:
    """The last `count` of what `_draw_cell` fills in."""
    end, size = cell.drawn(epoch + 1), len(cell.rows)
    parts = [cell.rows[:0]]
    while count:
        number, upto = (end - 1) // size, (end - 1) % size + 1
        taken = min(count, upto)
        parts.append(_of_pass(cell, seed, number, upto - taken, upto))
        end, count = end - taken, count - taken
    return np.concatenate(parts[::-1])


def _of_pass(cell: Cell, seed: int, number: int, start: int, end: int) -> Rows:
    """Places start to end - 1 of one pass through a cell."""
    rng, size = _pass_stream(cell, seed, number), len(cell.rows)
    if (size - start) * SHORT_END > size:
        return rng.permutation(cell.rows)[start:end]
    return cell.rows[permutation_end(rng, size, size - start)[: end - start]]


def _pass_stream(cell: Cell, seed: int, number: int) -> np.random.Generator:
    return _stream(seed, _PASS, number, cell.source, cell.bucket)


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))
