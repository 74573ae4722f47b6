"""What does not fit is told in one sentence with its remedy, and what fits in none."""

import dataclasses

import numpy as np
import pytest

from mos.errors import UserError
from mos.loader.batch import num_micro_batches
from mos.loader.cells import sort_into_cells
from mos.loader.checks import check_share, check_tables, check_view, repeating_buckets
from mos.loader.index import NO_ROW, SampleIndex
from mos.model.mos import ModelConfig
from mos.states.payload import StateCodec
from mos.tables.lance import create_table
from mos.tables.payloads import LatentTable, RowCache, StateTable
from mos.tables.state_tables import states_schema
from tests.mos.tables.sample_tables import DIM
from tests.mos.training.tiny import MODEL


def check(tables, change: dict, tower: str = "tower-x", codec: str = "codec-x") -> None:
    """Check the tables against the tiny model with some of its fields changed."""
    model = ModelConfig.model_validate(MODEL.model_dump() | {"latent_channels": 12} | change)
    cache = RowCache(0)
    check_tables(StateTable(tables.states, cache), LatentTable(tables.latents, cache), model, tower, codec)


def view(counts: dict[str, int]) -> SampleIndex:
    """So many samples of source `a` in each bucket, in the order of their names."""
    group = np.repeat(np.arange(len(counts), dtype=np.int16), list(counts.values()))
    row = np.zeros(len(group), dtype=np.int64)
    return SampleIndex(
        group=group,
        groups=tuple(f"generate {bucket}" for bucket in counts),
        source=row.astype(np.int16),
        sources=("a",),
        state=row,
        null_state=row,
        latent=row,
        reference=row + NO_ROW,
        address=row,
        cells=sort_into_cells(group, row),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_dim": 16}, "state_dim = 16, but the width of table .*states.lance is 12: set model.state_dim = 12"),
        ({"state_layers": 5}, "set model.state_layers = 3"),
        ({"state_layers": 2}, "set model.state_layers = 3"),
        ({"latent_channels": 4}, "number of channels of table .*latents.lance is 12: set model.latent_channels = 12"),
        ({"routed_layers": (1, 3, 7)}, r"lacks layers \[7\] .* set model.routed_layers = \[1, 2, 3\]"),
    ],
)
def test_tables_of_another_shape_are_refused(tables, change, message):
    with pytest.raises(UserError, match=message):
        check(tables, change)


@pytest.mark.parametrize("change", [{}, {"routed_layers": (1, 3), "state_layers": 2}])
def test_tables_that_hold_what_the_model_reads_are_taken(tables, change):
    check(tables, change)


def test_tables_of_another_tower_or_codec_are_refused(tables):
    with pytest.raises(UserError, match=r"states.lance was made by 'tower-x', this run uses 'other': run pipelines/en"):
        check(tables, {}, tower="other")
    with pytest.raises(UserError, match=r"latents.lance was made by 'codec-x', this run uses 'other'"):
        check(tables, {}, codec="other")


def test_a_layer_that_a_table_left_out_is_named(tables, tmp_path):
    """Its last layer is the model's, so that the number of layers says nothing."""
    some = create_table(str(tmp_path / "some.lance"), states_schema("tower-x", StateCodec("bf16", (0, 1, 3), DIM)))
    with pytest.raises(UserError, match=r"some.lance lacks layers \[2\] .* set model.routed_layers = \[1, 3\]"):
        check(dataclasses.replace(tables, states=some), {})


def test_a_view_too_small_for_a_batch_is_refused():
    index = view({"16x16": 30, "32x8": 10})
    check_view(index, batch_size=40, token_px=4, sources={"a": 1.0})
    with pytest.raises(UserError, match="40 samples, fewer than one batch of 41: loosen the filter or lower"):
        check_view(index, batch_size=41, token_px=4, sources={})


def test_a_source_that_no_sample_comes_from_is_refused():
    with pytest.raises(UserError, match=r"sources names 'z', but the view's samples come from \['a'\]"):
        check_view(view({"16x16": 8}), batch_size=4, token_px=4, sources={"a": 2.0, "z": 1.0})


@pytest.mark.parametrize("bucket", ["32x8", "8x32"])
def test_a_bucket_that_does_not_divide_into_tokens_is_refused(bucket):
    index = view({"16x16": 8, bucket: 8})
    check_view(index, batch_size=4, token_px=8, sources={})
    with pytest.raises(UserError, match=f"bucket {bucket} is not a multiple of 16 px, .* set curate.token_px = 16"):
        check_view(index, batch_size=4, token_px=16, sources={})


def test_buckets_smaller_than_a_batch_are_told():
    index = view({"16x16": 9, "32x8": 4, "8x32": 3})
    assert repeating_buckets(index, 4) == {"generate 8x32": 3}
    assert repeating_buckets(index, 3) == {}


def test_every_rank_has_a_sample_for_each_of_its_micro_batches():
    for batch_size, micro_batch_size, num_workers in ((8, 2, 2), (6, None, 2), (8, None, 3), (8, 3, 2), (8, 8, 2)):
        check_share(batch_size=batch_size, micro_batch_size=micro_batch_size, num_workers=num_workers)
    with pytest.raises(UserError, match="batch_size = 2 has no sample for each of the 3 training workers"):
        check_share(batch_size=2, micro_batch_size=None, num_workers=3)
    with pytest.raises(UserError, match=r"micro_batch_size = 1 makes 3 micro batches .* has 2 samples: set it to 2"):
        check_share(batch_size=8, micro_batch_size=1, num_workers=3)


@pytest.mark.parametrize(("micro_batch_size", "expected"), [(None, 1), (1, 3), (2, 2), (3, 1), (9, 1)])
def test_all_ranks_have_as_many_micro_batches_as_the_largest_share_needs(micro_batch_size, expected):
    assert num_micro_batches(8, 3, micro_batch_size) == expected
