import numpy as np
import pytest

from mos.loader.columns import ColumnWriter, map_column, new_column


@pytest.mark.parametrize("sizes", [[], [0], [1], [3, 0, 5], [7] * 300])
@pytest.mark.parametrize("kind", [np.int16, np.int64])
def test_what_is_written_in_batches_is_one_column(tmp_path, sizes, kind):
    values = np.arange(sum(sizes))
    with ColumnWriter(tmp_path / "column.npy", np.dtype(kind)) as column:
        for end, size in zip(np.cumsum(sizes, dtype=int), sizes, strict=True):
            column.add(values[end - size : end])
    assert np.load(tmp_path / "column.npy").dtype == kind
    if sum(sizes):
        assert map_column(tmp_path / "column.npy").tolist() == values.tolist()


def test_a_column_of_known_length_is_filled_in_any_order(tmp_path):
    column = new_column(tmp_path / "column.npy", 4, np.int32)
    column[[2, 0, 3, 1]] = [20, 0, 30, 10]
    assert map_column(tmp_path / "column.npy").tolist() == [0, 10, 20, 30]
