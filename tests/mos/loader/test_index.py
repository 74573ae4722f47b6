"""The join of a view with its encodings."""

import dataclasses

import numpy as np
import pytest

from mos.errors import UserError
from mos.loader.checks import check_share, check_tables, check_view, repeating_buckets
from mos.loader.index import NO_ROW, SampleIndex, build_index
from mos.model.mos import ModelConfig
from mos.tables.payloads import LatentTable, RowCache, StateTable
from mos.tables.views import View
from tests.mos.tables.sample_tables import RESOLUTION, make_tables
from tests.mos.training.tiny import MODEL


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("tables"))


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


@pytest.mark.parametrize(
    ("change", "tower", "message"),
    [
        ({}, "other", "was made by 'tower-x', this run uses 'other'"),
        ({"state_dim": 16}, "tower-x", "set model.state_dim = 12"),
        ({"state_layers": 5}, "tower-x", "set model.state_layers = 3"),
        ({"latent_channels": 4}, "tower-x", "set model.latent_channels = 12"),
        ({"routed_layers": (1, 3, 7)}, "tower-x", r"lacks layers \[7\] .* set model.routed_layers = \[1, 2, 3\]"),
    ],
)
def test_tables_of_another_shape_are_refused(tables, change, tower, message):
    cache = RowCache(0)
    model = ModelConfig.model_validate(MODEL.model_dump() | {"latent_channels": 12} | change)
    with pytest.raises(UserError, match=message):
        check_tables(StateTable(tables.states, cache), LatentTable(tables.latents, cache), model, tower, "codec-x")


def test_a_view_too_small_for_a_batch_is_refused(tables):
    index = build_index(tables, View(RESOLUTION))
    check_view(index, batch_size=40, token_px=4, sources={"a": 1.0})
    with pytest.raises(UserError, match="40 samples, fewer than one batch of 41"):
        check_view(index, batch_size=41, token_px=4, sources={})
    with pytest.raises(UserError, match="multiple of 16 px"):
        check_view(index, batch_size=4, token_px=16, sources={})
    with pytest.raises(UserError, match="sources names 'z'"):
        check_view(index, batch_size=4, token_px=4, sources={"z": 1.0})
    smallest = min(index.counts("group").values())
    assert repeating_buckets(index, smallest) == {}
    assert set(repeating_buckets(index, smallest + 1).values()) == {smallest}


def test_ranks_and_micro_batches_divide_the_batch():
    check_share(batch_size=8, micro_batch_size=2, num_workers=2)
    with pytest.raises(UserError, match="not a multiple of the 3 training workers"):
        check_share(batch_size=8, micro_batch_size=None, num_workers=3)
    with pytest.raises(UserError, match="does not divide a worker's share of 4"):
        check_share(batch_size=8, micro_batch_size=3, num_workers=2)
