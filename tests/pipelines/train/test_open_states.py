"""A worker's source of hidden states, opened: the table, the stream it reports to, or a tower with its own threads."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from mos.encoders.load import describe_codec, describe_tower
from mos.errors import UserError
from mos.feeding.config import StreamStates
from mos.feeding.contexts import load_contexts
from mos.feeding.progress import RankProgress, StreamProgress
from mos.states.quantise import dequantise
from mos.tables.blobs import plain_schema
from mos.tables.lance import commit_fragments, create_table, read_column, write_rows
from mos.tables.payloads import RowCache, StateTable
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from pipelines.train.driver import prepare
from pipelines.train.job import StageJob, make_job, stage_plan
from pipelines.train.open_states import open_states, stage_demand
from pipelines.train.samples import StageSamples
from tests.kills import encode_without_ray, make_run
from tests.mos.training.gloo import process_group
from tests.pipelines.trained_run import encoded_run, stage

CPU = torch.device("cpu")
STREAM = "states={type='stream', window_steps=2, timeout_s=0.1}"
ROUTED = ("model.state_layers=2", "model.routed_layers=[1, 3]")


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    with process_group(0, 1, tmp_path / "rendezvous"):
        yield


def prepared(config: RunConfig) -> StageJob:
    job = make_job(Run(config).step("stage1"), Run(config))
    prepare(job, config)
    return job


def test_a_table_gives_the_layers_that_the_model_reads(small_run):
    config = encoded_run(small_run, *stage("stage1"), *ROUTED)
    job = make_job(Run(config).step("stage1"), Run(config))
    states = open_states(job, StageSamples(job), RowCache(10**6), CPU)
    whole = StateTable(job.tables.states, RowCache(0)).read([3, 0])
    for found, row in zip(states.read([3, 0]), whole, strict=True):
        assert torch.equal(dequantise(found), dequantise(row)[:, [0, 1, 3]])


def test_a_stream_gives_what_comes_into_its_queue_and_is_told_where_the_rank_is(small_run, group):
    job = prepared(encoded_run(small_run, *stage("stage1", STREAM)))
    stored = job.tables.states.open()
    rows = stored.scanner(blob_handling="all_binary").to_table().cast(plain_schema(stored.schema))
    create_table(job.queue, rows.schema)
    commit_fragments(job.queue, write_rows(job.queue, rows.slice(0, 5)), 5)
    states = open_states(job, StageSamples(job), RowCache(0), CPU)
    progress = StreamProgress(job.folder / "stream")
    progress.clear()
    states.begin(3)
    assert progress.ranks() == [RankProgress(3, 0.0)]
    for step in (3, 4):
        states.begin(step)
    assert [rank.step for rank in progress.ranks()] == [4]  # a window of two steps begins with it

    there = read_column(job.tables.states, "context_key")[:5]
    numbers = load_contexts(job.folder / "contexts.arrow")["context_key"].to_pylist()
    found = states.read([numbers.index(key) for key in there])
    expected = StateTable(job.tables.states, RowCache(0)).read(range(5))
    assert all(torch.equal(dequantise(one), dequantise(other)) for one, other in zip(found, expected, strict=True))
    with pytest.raises(UserError, match=f"did not come into {re.escape(job.queue)}"):
        states.read(range(len(numbers)))
    progress.fail("producers of states failed: no weights")
    with pytest.raises(UserError, match=r"^producers of states failed: no weights$"):
        states.read(range(len(numbers)))


@pytest.mark.parametrize(("dropout", "asked"), [(0.0, "state"), (1.0, "null_state")])
def test_a_stage_asks_for_the_contexts_of_its_own_plan(small_run, dropout: float, asked: str):
    config = encoded_run(small_run, *stage("stage1", STREAM, "steps=5", f"caption_dropout={dropout}"))
    job = prepared(config)
    index = StageSamples(job).index(0)
    demand = stage_demand(job, StageSamples(job), StreamStates(window_steps=2))
    assert demand.num_windows == 3
    assert [list(demand.steps_of(window)) for window in range(3)] == [[0, 1], [2, 3], [4]]
    asked_for = [demand.step(step).tolist() for step in range(5)]
    rows = stage_plan(job, index).epoch(0).rows
    assert asked_for[0] == getattr(index, asked)[rows[0]].tolist()
    assert demand.window(2) == list(dict.fromkeys(asked_for[4]))
    assert set().union(*asked_for) <= set(getattr(index, asked).tolist())


def test_a_tower_beside_the_trainer_gives_what_the_table_holds_and_leaves_its_threads(tmp_path: Path):
    config = load_run(make_run(tmp_path / "run", 4), ("stage1.states.type=recompute", *ROUTED))
    states, latents = encode_without_ray(config, 8)
    tower, codec = describe_tower(config.encode.tower), describe_codec(config.encode.vae)
    outputs = {"states": asdict(states), "latents": asdict(latents), **asdict(tower), **asdict(codec)}
    Run(config).step("encode").finish(outputs)
    job = prepared(config)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        recomputed = open_states(job, StageSamples(job), RowCache(0), CPU)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    contexts = load_contexts(job.folder / "contexts.arrow")["context_key"].to_pylist()
    assert sorted(contexts) == sorted(read_column(states, "context_key"))
    rows = [read_column(states, "context_key").index(key) for key in contexts]
    stored = StateTable(states, RowCache(0), (0, 1, 3)).read(rows)
    for one, other in zip(recomputed.read(range(len(contexts))), stored, strict=True):
        assert torch.equal(dequantise(one), dequantise(other))
