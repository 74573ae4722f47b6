"""Batches: the same samples with the same draws at every world size and from every place one starts."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from mos.errors import UserError
from mos.loader.batch import Batch
from mos.loader.builder import BatchBuilder, DrawRule, Share
from mos.loader.join import build_index
from mos.loader.left_out import LeftOutSamples
from mos.loader.plan import make_plan
from mos.loader.randomness import ExplorationRule
from mos.states.payload import StateCodec, _join, _split_bytes
from mos.states.quantise import dequantise
from mos.tables.blobs import plain_schema
from mos.tables.payloads import LatentTable, RowCache, StateTable
from mos.tables.views import View
from tests.mos.tables.sample_tables import CHANNELS, DIM, NUM_STATES, RESOLUTION, digest, write

RULE = DrawRule(7, torch.sqrt, 0.5, ExplorationRule(num_blocks=2, num_layers=3, top_k=2, epsilon=0.3))


@pytest.fixture(scope="module")
def index(tables, tmp_path_factory):
    return build_index(tables, View(RESOLUTION, tasks=("generate", "edit")), tmp_path_factory.mktemp("view") / "index")


def builder(tables, index, rank=0, world_size=1, cache_bytes=10**6, rule=RULE) -> BatchBuilder:
    cache = RowCache(cache_bytes)
    states, latents = StateTable(tables.states, cache), LatentTable(tables.latents, cache)
    plan = make_plan(index.cells, batch_size=4, seed=3)
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


def damaged(folder, tables, kind: str, rows: list[int], payload):
    """The tables with other payloads in some rows of one of them, written anew as a process without checks would."""
    table = getattr(tables, kind)
    content = table.open().scanner(blob_handling="all_binary").to_table()
    payloads = content.column("payload").to_pylist()
    for row in rows:
        payloads[row] = payload(payloads[row])
    content = content.set_column(
        content.schema.names.index("payload"), "payload", pa.array(payloads, pa.large_binary())
    )
    plain = pa.Table.from_arrays(content.columns, schema=plain_schema(table.open().schema))
    return dataclasses.replace(tables, **{kind: write(folder / f"damaged-{kind}.lance", plain)})


def nan_first(payload: bytes) -> bytes:
    return torch.tensor([torch.nan], dtype=torch.float16).numpy().tobytes() + payload[2:]


def nan_everywhere(codec: StateCodec):
    """Another payload of as many tokens, with NaN in one value, past the check that `pack` makes."""

    def change(payload: bytes) -> bytes:
        num_tokens = next(n for n in range(1, 9) if unpacks(codec, payload, n))
        states = codec.decode(payload, num_tokens).clone()
        states[0, 1, 2] = torch.nan
        return _join(_split_bytes(states))

    return change


def unpacks(codec: StateCodec, payload: bytes, num_tokens: int) -> bool:
    try:
        codec.unpack(payload, num_tokens)
    except ValueError:
        return False
    return True


def zeroed(payload: bytes) -> bytes:
    return bytes(len(payload))


@pytest.mark.parametrize("kind", ["latent", "reference", "state", "unreadable state"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_sample_that_is_not_finite_is_left_out_named_and_counted(tmp_path, tables, index, kind, world_size):
    edits = np.flatnonzero(index.source == 2)
    sample = int(edits[3])
    column = {"latent": "latent", "reference": "reference"}.get(kind, "state")
    row = int(getattr(index, column)[sample])
    codec = StateTable(tables.states, RowCache(0)).codec
    change = {"state": nan_everywhere(codec), "unreadable state": zeroed}.get(kind, nan_first)
    bad = damaged(tmp_path, tables, "states" if column == "state" else "latents", [row], change)
    alike = set(np.flatnonzero(getattr(index, column) == row).tolist())
    plan = make_plan(index.cells, batch_size=4, seed=3)
    steps = range(plan.first_step(1))
    rule = dataclasses.replace(RULE, caption_dropout=0.0)
    said: list[str] = []
    batches: dict[int, list[Batch]] = {}
    sound = [builder(tables, index, rule=rule).build(step) for step in steps]
    for rank in range(world_size):
        states, latents = StateTable(bad.states, RowCache(0)), LatentTable(bad.latents, RowCache(0))
        left_out = LeftOutSamples(index, bad.samples, said.append)
        build = BatchBuilder(plan, index, states, latents, rule, Share(rank, world_size), left_out.add).build
        batches[rank] = [build(step) for step in steps]
    rows = plan.epoch(0).rows
    met = [int(sample) for sample in rows.flatten() if int(sample) in alike]
    assert sum(batch.num_left_out for rank in batches for batch in batches[rank]) == len(met) > 0
    assert sorted({line.split()[1] for line in said}) == sorted({digest(f"sample {number}") for number in met})
    assert len(said) == len(set(met))
    assert all("(source " in line and "row " in line and "left out" in line for line in said)
    for step in steps:
        parts = [batches[rank][step] for rank in range(world_size)]
        weights = torch.cat([torch.ones(len(part)) if part.weight is None else part.weight for part in parts])
        assert weights.tolist() == [float(int(sample) not in alike) for sample in rows[step]]
        for name in ("latents", "noise", "timesteps"):
            values = torch.cat([getattr(part, name) for part in parts])
            assert values.isfinite().all()
            assert torch.equal(values[weights == 1], getattr(sound[step], name)[weights == 1])
        assert all(part.context.states.is_finite() for part in parts)


def test_a_table_without_sound_rows_is_refused(tmp_path, tables, index):
    bad = damaged(tmp_path, tables, "latents", list(range(tables.latents.rows)), nan_first)
    left_out = LeftOutSamples(index, bad.samples, lambda _: None)
    build = BatchBuilder(
        make_plan(index.cells, batch_size=4, seed=3),
        index,
        StateTable(bad.states, RowCache(0)),
        LatentTable(bad.latents, RowCache(0)),
        RULE,
        Share(0, 1),
        left_out.add,
    ).build
    with pytest.raises(UserError, match=r"^11 of 50 samples are left out, .*encode.py"):
        list(map(build, range(10)))
