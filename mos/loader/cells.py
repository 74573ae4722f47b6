"""Rows of a view by *cell*, the rows of one source in one bucket: what a batch plan permutes and mixes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 1_000_000
"""Rows that are sorted at a time."""

Rows = NDArray[np.signedinteger]


@dataclass(frozen=True, eq=False)
class CellRows:
    """All rows of a view, cell by cell in ascending order of source and bucket; ascending within each."""

    rows: Rows
    """Row numbers [rows]; may be mapped from a file."""
    cells: NDArray[np.int64]
    """Source, bucket and number of rows of each cell [cells, 3]."""


def row_type(num_rows: int) -> type[np.signedinteger]:
    """Narrowest integers that can number so many rows."""
    return np.int32 if num_rows < 2**31 else np.int64


def sort_into_cells(
    bucket: NDArray[np.integer], source: NDArray[np.integer], create: Callable[[int, type], Rows] = np.empty
) -> CellRows:
    """Rows by cell, in memory of a block beside the result.

    Args:
        bucket: bucket number of each row, below 2^15.
        source: source number of each row, below 2^15.
        create: an array of so many elements of a type, for the result; in memory unless given.
    """
    blocks = range(0, len(bucket), BLOCK_ROWS)
    found: Counter[int] = Counter()
    for start in blocks:
        numbers, counts = np.unique(_codes(bucket, source, start), return_counts=True)
        found.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    codes = np.array(sorted(found), dtype=np.int64)
    sizes = np.array([found[code] for code in codes.tolist()], dtype=np.int64)
    rows, places = create(len(bucket), row_type(len(bucket))), np.cumsum(sizes) - sizes
    for start in blocks:
        cell = np.searchsorted(codes, _codes(bucket, source, start)).astype(np.min_scalar_type(len(codes)))
        parts = np.split(np.argsort(cell, kind="stable"), np.cumsum(np.bincount(cell, minlength=len(codes)))[:-1])
        for number, part in enumerate(parts):
            rows[places[number] : places[number] + len(part)] = part + start
            places[number] += len(part)
    return CellRows(rows, np.stack([codes >> 15, codes & 0x7FFF, sizes], axis=1))


def _codes(bucket: NDArray[np.integer], source: NDArray[np.integer], start: int) -> NDArray[np.int32]:
    """Cell of each row of a block, as one number."""
    block = slice(start, start + BLOCK_ROWS)
    return source[block].astype(np.int32) << 15 | bucket[block].astype(np.int32)
