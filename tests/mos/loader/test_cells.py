import numpy as np
import pytest

from mos.loader import cells
from mos.loader.cells import row_type, sort_into_cells


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("block", [1, 7, 1_000_000])
def test_rows_are_in_order_of_source_bucket_and_place(monkeypatch, seed, block):
    monkeypatch.setattr(cells, "BLOCK_ROWS", block)
    rng = np.random.default_rng(seed)
    bucket = rng.choice(2**15, 5)[rng.integers(0, 5, seed * 9)].astype(np.int16)
    source = rng.integers(0, 1 + seed % 3, seed * 9).astype(np.int16)
    found = sort_into_cells(bucket, source)
    assert found.rows.tolist() == np.lexsort((np.arange(len(bucket)), bucket, source)).tolist()
    pairs, counts = np.unique(np.stack([source, bucket], axis=1), axis=0, return_counts=True)
    assert found.cells.tolist() == [[*pair, count] for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)]


def test_rows_are_numbered_in_four_bytes_where_they_can_be():
    assert row_type(2**31 - 1) is np.int32
    assert row_type(2**31) is np.int64
