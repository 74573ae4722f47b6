"""An opened index: mapped, shared, in no time."""

import numpy as np

from mos.loader.cells import sort_into_cells
from mos.loader.index import SAMPLE, SampleIndex
from mos.loader.join import build_index
from mos.tables.views import View
from tests.mos.tables.sample_tables import RESOLUTION


def index_of(group: np.ndarray, source: np.ndarray) -> SampleIndex:
    rows = np.arange(len(group))
    numbers = dict.fromkeys(("state", "null_state", "latent", "reference", "address"), rows)
    groups = tuple(f"generate {number}" for number in range(4))
    return SampleIndex(group, groups, source, ("a", "b", "c"), **numbers, cells=sort_into_cells(group, source))


def test_counts_and_first_samples_come_without_a_look_at_the_rows():
    rng = np.random.default_rng(0)
    group, source = rng.integers(0, 3, 500), rng.integers(0, 2, 500)
    index = index_of(group, source)
    assert index.counts("group") == {f"generate {n}": int((group == n).sum()) for n in range(4)}
    assert index.counts("source") == {name: int((source == n).sum()) for n, name in enumerate("abc")}
    for number, count in ((0, 7), (2, 1), (1, 10_000)):
        assert index.first(number, count).tolist() == (group == number).nonzero()[0][:count].tolist()


def is_mapped(array: np.ndarray | None) -> bool:
    return isinstance(array, np.memmap) or (array is not None and is_mapped(array.base))


def test_its_columns_are_mapped_and_outlive_their_replacement(tables, tmp_path):
    view = View(RESOLUTION, tasks=("generate", "edit"))
    index = build_index(tables, view, tmp_path / "index")
    before = {name: getattr(index, name).copy() for name in SAMPLE.names}
    for name in SAMPLE.names:
        column = getattr(index, name)
        assert is_mapped(column)
        assert not column.flags.writeable
    assert len(build_index(tables, View(RESOLUTION, sources=("a",)), tmp_path / "index")) == 20
    assert all(np.array_equal(getattr(index, name), values) for name, values in before.items())
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
