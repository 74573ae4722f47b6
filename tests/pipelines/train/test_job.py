"""What a stage's workers are given: tables, source of states, seeds, the checkpoint they go on from, the plan."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mos.errors import UserError
from mos.feeding.config import CacheStates, RecomputeStates, StreamStates
from mos.loader.cells import sort_into_cells
from mos.loader.index import NO_ROW, SampleIndex
from mos.model.mos import ModelConfig, MoS
from mos.training.checkpoint_format import TrainState
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from mos.training.engine import build_engine
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.train.job import (
    StageJob,
    chosen_states,
    find_start,
    make_job,
    newest_step,
    preview_rows,
    stage_plan,
    steps_done,
)
from tests.mos.training.gloo import process_group
from tests.mos.training.tiny import tiny_stage
from tests.pipelines.trained_run import encoded_run, stage

WITHOUT = ("stage3", "stage4")


def job_of(config: RunConfig, name: str = "stage1") -> StageJob:
    return make_job(Run(config).step(name), Run(config))


def save_checkpoints(folder: Path, model: ModelConfig, *steps: int) -> None:
    """Checkpoints of untrained weights, as a stage writes them."""
    tiny = tiny_stage()
    with process_group(0, 1, folder.parent / f"{folder.name}.group"):
        engine = build_engine(tiny.engine, tiny.optimizer, MoS(model), torch.device("cpu"), recompute=False)
        checkpoints = Checkpoints(folder, {"model": model.model_dump(mode="json")}, keep=len(steps))
        for step in steps:
            checkpoints.save(engine, Ema(engine.weights(), 0.9), TrainState(step))
        checkpoints.finish()


def finish(config: RunConfig, name: str, checkpoint: Path) -> None:
    Run(config).step(name).finish({"checkpoint": str(checkpoint)})


def index_of(groups: list[str], sources: list[str]) -> SampleIndex:
    """A view whose samples differ by group and source alone."""
    rows = np.arange(len(groups))
    group, source = (np.unique(names, return_inverse=True) for names in (groups, sources))
    return SampleIndex(
        group=group[1].astype(np.int16),
        groups=tuple(group[0].tolist()),
        source=source[1].astype(np.int16),
        sources=tuple(source[0].tolist()),
        state=rows,
        null_state=rows,
        latent=rows,
        reference=np.full_like(rows, NO_ROW),
        address=rows,
        cells=sort_into_cells(group[1], source[1]),
    )


def test_a_job_names_what_the_records_name_and_can_be_written_down(small_run):
    config = encoded_run(small_run, *stage("stage1"), "seed=7")
    job, step = job_of(config), Run(config).step("stage1")
    curated, encoded = (Run(config).require(name).outputs for name in ("curate", "encode"))
    assert (job.tables.samples.uri, job.tables.samples.version) == (
        curated["samples"]["uri"],
        curated["samples"]["version"],
    )
    assert job.tables.latents.uri == encoded["latents"]["uri"]
    assert job.folder == config.folder("checkpoints", "stage1", step.short)
    assert (job.states, job.queue, job.start) == (CacheStates(), encoded["states"]["uri"], None)
    written = json.loads(json.dumps({"provenance": job.provenance, "export": job.export}))
    assert written["provenance"]["fingerprint"] == step.fingerprint
    assert written["provenance"]["tables"]["states"] == encoded["states"]
    assert written["provenance"]["run_config"]["seed"] == 7
    about = written["export"]["run"]
    assert (about["stage"], about["resolution"], about["tower_id"]) == ("stage1", 16, "tower-x")
    assert ModelConfig.model_validate(written["export"]["model"]) == config.model


def test_every_stage_draws_from_a_seed_of_its_own_over_the_same_weights(small_run, tmp_path: Path):
    config = encoded_run(small_run, *stage("stage1"), *stage("stage2"), "seed=7", without=(*WITHOUT, "edit"))
    save_checkpoints(tmp_path / "stage", config.model, 3)
    finish(config, "stage1", tmp_path / "stage" / "step-000000003")
    first, second = job_of(config), job_of(config, "stage2")
    assert first.seed == job_of(config).seed != second.seed
    assert all(0 <= job.seed < 2**64 for job in (first, second))
    assert first.model_seed == second.model_seed == 7
    assert job_of(config.model_copy(update={"seed": 8})).seed != first.seed


@pytest.mark.parametrize("drop", [True, False])
def test_a_stream_has_a_queue_of_its_own_where_it_drops_what_was_read(small_run, drop: bool):
    config = encoded_run(small_run, *stage("stage1", f"states={{type='stream', drop_consumed={str(drop).lower()}}}"))
    job = job_of(config)
    own = config.queue_uri("stage1", Run(config).step("stage1").short)
    assert job.queue == (own if drop else job.tables.states.uri)


def test_auto_is_what_the_encode_step_settled_and_a_named_source_stays(small_run):
    auto = small_run("stage1.states={type='auto', stream={lead_mb=5}}")
    for source, settled in (
        ("cache", CacheStates()),
        ("stream", StreamStates(lead_mb=5)),
        ("recompute", RecomputeStates()),
    ):
        assert chosen_states(auto, "stage1", {"sources": {"stage1": source}}) == settled
    named = small_run("stage1.states.type=recompute")
    assert chosen_states(named, "stage1", {"sources": {"stage1": "cache"}}) == RecomputeStates()
    assert chosen_states(named, "stage2", {}) == CacheStates()


def test_a_stage_goes_on_from_the_checkpoint_of_the_stage_before(small_run, tmp_path: Path):
    config = encoded_run(small_run, *stage("stage1"), *stage("stage2"), without=(*WITHOUT, "edit"))
    assert find_start(Run(config).step("stage1"), Run(config)) is None
    save_checkpoints(tmp_path / "stage", config.model, 6)
    finish(config, "stage1", tmp_path / "stage" / "step-000000006")
    assert find_start(Run(config).step("stage2"), Run(config)) == tmp_path / "stage" / "step-000000006"


def test_a_start_that_cannot_be_taken_is_named_with_the_remedy(small_run, tmp_path: Path):
    config = encoded_run(small_run, *stage("stage1"), *stage("stage2"), without=(*WITHOUT, "edit"))
    path = tmp_path / "stage" / "step-000000006"
    finish(config, "stage1", path)
    remedy = rf"checkpoint {path} of stage1 is missing or damaged .*: run `python pipelines/stage1.py --force`$"
    with pytest.raises(UserError, match=remedy):
        find_start(Run(config).step("stage2"), Run(config))
    save_checkpoints(tmp_path / "stage", config.model.model_copy(update={"ffn_dim": 48}), 6)
    with pytest.raises(UserError, match=rf"checkpoint {path} of stage1 holds another model than \[model\] describes"):
        find_start(Run(config).step("stage2"), Run(config))


def test_steps_done_are_those_of_the_newest_checkpoint_that_reads(small_run, tmp_path: Path):
    job = replace(job_of(encoded_run(small_run, *stage("stage1"))), folder=tmp_path / "stage")
    assert newest_step(job) == steps_done(job.folder) == 0
    save_checkpoints(job.folder, job.model, 3, 6)
    assert newest_step(job) == 6
    (job.folder / "step-000000006" / "COMPLETE.json").write_text("null")
    assert newest_step(job) == 3


def test_a_plan_mixes_sources_by_name_and_leaves_out_what_is_not_named(small_run):
    index = index_of(["generate 16x16"] * 12, ["a", "b", "c"] * 4)
    job = job_of(encoded_run(small_run, *stage("stage1", "sources={a=1.0, c=3.0}", "batch_size=4")))
    plan = stage_plan(job, index)
    drawn = {index.sources[cell.source]: float(cell.draws_per_epoch) for cell in plan.cells}
    assert drawn == {"a": 2.0, "c": 6.0}  # the eight rows of both
    assert plan.batch_size == 4
    assert plan.first_step(1) == 2


def test_a_plan_without_ratios_draws_every_sample_once(small_run):
    index = index_of(["generate 16x16"] * 9 + ["generate 8x32"] * 3, ["a", "b", "c"] * 4)
    job = job_of(encoded_run(small_run, *stage("stage1", "batch_size=3")))
    rows = stage_plan(job, index).epoch(0).rows
    assert sorted(rows.ravel().tolist()) == list(range(12))
    assert all(len(set(index.group[batch].tolist())) == 1 for batch in rows)
    other = stage_plan(replace(job, seed=job.seed + 1), index).epoch(0).rows
    assert not np.array_equal(rows, other)


@pytest.mark.parametrize(("num", "rows"), [(2, [1, 2]), (8, [1, 2, 4])])
def test_pictures_on_the_way_are_of_the_largest_bucket(small_run, num: int, rows: list[int]):
    groups = ["generate 16x16", "generate 8x32", "generate 8x32", "generate 16x16", "generate 8x32"]
    job = job_of(encoded_run(small_run, *stage("stage1", f"num_sample_images={num}")))
    assert preview_rows(job, index_of(groups, ["a"] * 5)).tolist() == rows
