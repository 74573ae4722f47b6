"""Batches: the same samples with the same draws at every world size and from every place one starts."""

import dataclasses

import pytest
import torch

from mos.data.batch import Batch
from mos.data.batches import BatchBuilder, DrawRule, Share
from mos.data.index import build_index
from mos.data.payloads import LatentTable, RowCache, StateTable
from mos.data.plan import make_plan
from mos.data.randomness import ExplorationRule
from mos.data.views import View
from mos.states.quantise import dequantise
from tests.mos.data.tables import CHANNELS, DIM, NUM_STATES, RESOLUTION, make_tables

RULE = DrawRule(7, torch.sqrt, 0.5, ExplorationRule(num_blocks=2, num_layers=3, top_k=2, epsilon=0.3))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def index(tables):
    return build_index(tables, View(RESOLUTION, tasks=("generate", "edit")))


def builder(tables, index, rank=0, world_size=1, cache_bytes=10**6, rule=RULE) -> BatchBuilder:
    cache = RowCache(cache_bytes)
    states, latents = StateTable(tables.states, cache), LatentTable(tables.latents, cache)
    plan = make_plan(index.group, index.source, batch_size=4, seed=3)
    return BatchBuilder(plan, index, states, latents, rule, Share(rank, world_size))


def assert_same_samples(whole: Batch, parts: list[Batch]) -> None:
    """Each part holds its slice of the whole; padding may differ."""
    size = len(whole) // len(parts)
    for rank, part in enumerate(parts):
        mine = whole[rank * size : (rank + 1) * size]
        ctx = part.context.layout.mask.shape[1]
        assert not mine.context.layout.mask[:, ctx:].any()
        assert torch.equal(mine.context.layout.offsets, part.context.layout.offsets)
        assert torch.equal(mine.context.states.codes, part.context.states.codes)
        assert torch.equal(mine.exploration.take[:, :ctx], part.exploration.take)
        assert torch.equal(mine.exploration.layers[:, :ctx], part.exploration.layers)
        for name in ("latents", "noise", "timesteps"):
            assert torch.equal(getattr(mine, name), getattr(part, name))
        assert (mine.reference is None) == (part.reference is None)
        if mine.reference is not None:
            assert torch.equal(mine.reference, part.reference)


def contexts_of(batch: Batch) -> list[torch.Tensor]:
    return [dequantise(batch.context[i : i + 1].states) for i in range(len(batch))]


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_hold_the_global_batch(tables, index, world_size):
    single = builder(tables, index)
    ranks = [builder(tables, index, rank, world_size) for rank in range(world_size)]
    for step in range(25):
        assert_same_samples(single.build(step), [rank.build(step) for rank in ranks])


def test_a_stream_may_start_anywhere(tables, index):
    whole = list(builder(tables, index).stream(0, 30, 2))
    resumed = list(builder(tables, index, cache_bytes=0).stream(17, 30, 3))
    assert [(batch.epoch, batch.step) for batch in resumed] == [(batch.epoch, batch.step) for batch in whole[17:]]
    for one, other in zip(whole[17:], resumed, strict=True):
        assert_same_samples(one, [other])


def test_a_batch_is_complete_and_of_one_shape(tables, index):
    edits = 0
    for batch in builder(tables, index).stream(0, 24, 2):
        assert batch.latents.shape[:2] == (4, CHANNELS)
        assert batch.noise.shape == batch.latents.shape
        assert batch.context.states.codes.shape[1:] == (NUM_STATES, DIM)
        assert batch.exploration.layers.max() < 3
        assert ((batch.timesteps >= 0) & (batch.timesteps <= 1)).all()
        edits += batch.reference is not None
    assert edits >= 2


def test_dropped_captions_become_the_null_context(tables, index):
    always, never = (dataclasses.replace(RULE, caption_dropout=share) for share in (1.0, 0.0))
    nulls = contexts_of(builder(tables, index, rule=always).build(0))
    assert all(torch.equal(nulls[0], sample) for sample in nulls)
    captions = contexts_of(builder(tables, index, rule=never).build(0))
    assert not torch.equal(captions[0], captions[1])
    batches = builder(tables, index).stream(0, 60, 2)
    rate = sum(torch.equal(context, nulls[0]) for batch in batches for context in contexts_of(batch))
    assert 80 <= rate <= 160


def test_epochs_and_places_draw_differently(tables, index):
    batches = list(builder(tables, index).stream(0, 30, 2))
    noise = torch.cat([batch.noise.flatten(1)[:, :8] for batch in batches])
    assert len(torch.unique(noise, dim=0)) == len(noise)
    assert noise.mean().abs() < 0.15
    assert 0.85 < noise.std() < 1.15


def test_micro_batches_are_the_batch_in_order(tables, index):
    batch = builder(tables, index).build(0)
    parts = list(batch.split(3))
    assert [len(part) for part in parts] == [3, 1]
    assert torch.equal(torch.cat([part.latents for part in parts]), batch.latents)
    assert [len(part) for part in batch.split(None)] == [4]


def test_the_row_cache_stays_within_its_bound():
    cache = RowCache(100)
    for row in range(10):
        cache.put(("t", row), torch.zeros(10, dtype=torch.int32))
        cache.get(("t", 0))
    assert cache.held_bytes == 80
    assert cache.get(("t", 0)) is not None
    assert cache.get(("t", 5)) is None
    cache.put(("t", 99), torch.zeros(26, dtype=torch.int32))
    assert cache.get(("t", 99)) is None
