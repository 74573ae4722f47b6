"""The join of a view with its encodings."""

import dataclasses

import numpy as np
import pytest

from mos.errors import UserError
from mos.loader.index import NO_ROW, SampleIndex, build_index
from mos.tables.views import View
from tests.mos.tables.sample_tables import RESOLUTION, make_tables


def test_every_sample_of_the_view_is_found(tables):
    index = build_index(tables, View(RESOLUTION, tasks=("generate", "edit")))
    assert len(index) == 50
    assert index.num_left_out == 0
    assert index.counts("source") == {"a": 20, "b": 20, "c": 10}
    assert index.groups == tuple(sorted(f"{t} {b}" for t in ("generate", "edit") for b in ("16x16", "8x32", "32x8")))
    is_edit = index.source == 2
    assert (index.reference[is_edit] != NO_ROW).all()
    assert (index.reference[~is_edit] == NO_ROW).all()
    assert len(set(index.null_state)) == 1


def test_a_view_keeps_what_its_filter_keeps(tables):
    index = build_index(tables, View(RESOLUTION, "sharpness >= 0.2 OR sharpness < 0.1", ("generate",), ("a",)))
    assert index.counts("source") == {"a": 15}


def test_an_index_survives_its_file(tables, tmp_path):
    index = build_index(tables, View(RESOLUTION))
    index.save(tmp_path / "index.npz")
    again = SampleIndex.load(tmp_path / "index.npz")
    for field in dataclasses.fields(index):
        assert np.array_equal(getattr(index, field.name), getattr(again, field.name))


def test_samples_without_encodings_are_left_out_and_counted(tmp_path):
    index = build_index(make_tables(tmp_path, failed=3), View(RESOLUTION))
    assert (len(index), index.num_left_out) == (37, 3)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View(999), "resolution 999 was not curated"),
        (View(RESOLUTION, "no_such_column > 1"), "no_such_column > 1"),
        (View(RESOLUTION, "sharpness > 100"), "of which 0 are encoded"),
    ],
)
def test_a_view_that_does_not_work_is_explained(tables, view, message):
    with pytest.raises(UserError, match=message):
        build_index(tables, view)
