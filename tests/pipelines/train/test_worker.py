"""One rank put together: which weights it begins with, what it draws, when it leaves, and what it leaves behind."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mos.errors import UserError
from mos.feeding.config import StreamStates
from mos.feeding.progress import StreamProgress
from mos.flow.timestep import timesteps
from mos.loader.batch import Batch
from mos.loader.randomness import ExplorationRule
from mos.model.exported import INDEX, WEIGHTS
from mos.training.checkpoint import newest_readable
from mos.training.checkpoint_format import TrainState
from mos.training.goodput import goodput, read_spans
from mos.training.metrics import StepMetrics, metrics_of, read_metrics
from mos.training.notices import NewNotices
from mos.training.spikes import Skipped, read_skipped
from mos.training.stop import StopRequest, stoppable
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.train.batches import StageBatches
from pipelines.train.driver import prepare
from pipelines.train.job import StageJob, make_job
from pipelines.train.worker import draw_rule, start_training, train_worker
from tests.mos.training.gloo import process_group
from tests.pipelines.trained_run import encoded_run, stage

CPU = torch.device("cpu")
TINY = ("sample.sampler.steps=1", *stage("stage1", "sample_every=3", "num_sample_images=2"))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    with process_group(0, 1, tmp_path / "rendezvous"):
        yield


def prepared(config: RunConfig, folder: Path) -> StageJob:
    """The first stage, to be trained in a folder of its own."""
    job = replace(make_job(Run(config).step("stage1"), Run(config)), folder=folder)
    prepare(job, config)
    return job


def exported(job: StageJob) -> dict[str, torch.Tensor]:
    return load_file(job.folder / "export" / WEIGHTS)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_stage_that_is_stopped_goes_on_as_if_it_had_not_been(small_run, group, tmp_path: Path):
    config = encoded_run(small_run, *TINY)
    unbroken, broken = (prepared(config, tmp_path / name) for name in ("unbroken", "broken"))
    train_worker(unbroken, CPU)
    StopRequest(broken.folder).ask()
    train_worker(broken, CPU)
    assert newest_readable(broken.folder).state.step == 1
    assert not (broken.folder / "export").exists()
    assert not StopRequest(broken.folder).is_training()
    StopRequest(broken.folder).clear()
    train_worker(broken, CPU)
    assert newest_readable(broken.folder).state.step == 6
    assert equal(exported(broken), exported(unbroken))
    assert [line.step for line in read_metrics(broken.folder)] == [2, 4, 6]
    about = json.loads((broken.folder / "export" / INDEX).read_text(encoding="utf-8"))
    assert about["run"]["stage"] == "stage1"
    pictures = sorted((broken.folder / "samples").iterdir())
    assert [path.name for path in pictures] == ["step-000000003.png", "step-000000006.png"]
    assert Image.open(pictures[0]).width > Image.open(pictures[0]).height  # two pictures side by side


def test_a_stage_that_ended_is_exported_again_and_not_trained(small_run, group, tmp_path: Path):
    job = prepared(encoded_run(small_run, *TINY, "stage1.sample_every=100"), tmp_path / "stage")
    train_worker(job, CPU)
    weights = exported(job)
    (job.folder / "export" / WEIGHTS).unlink()
    train_worker(job, CPU)
    assert equal(exported(job), weights)
    assert [line.step for line in read_metrics(job.folder)] == [2, 4, 6]


def test_where_the_producers_failed_nothing_is_done(small_run, group, tmp_path: Path):
    config = encoded_run(small_run, *TINY)
    job = replace(make_job(Run(config).step("stage1"), Run(config)), folder=tmp_path, states=StreamStates())
    progress = StreamProgress(tmp_path / "stream")
    progress.clear()
    progress.fail("no weights")
    train_worker(job, CPU)
    assert {path.name for path in tmp_path.iterdir()} - {"run", "rendezvous"} == {"stream"}
    progress.clear()
    with pytest.raises(FileNotFoundError, match=r"contexts\.arrow"):
        train_worker(job, CPU)


def test_new_weights_follow_from_the_runs_seed_alone(small_run, group):
    config = encoded_run(small_run, *TINY)
    job = make_job(Run(config).step("stage1"), Run(config))
    first, again, other = (
        {name: tensor.full_tensor() for name, tensor in start_training(job, CPU)[0].weights().items()}
        for job in (job, replace(job, seed=job.seed + 1), replace(job, model_seed=job.model_seed + 1))
    )
    assert equal(first, again)
    assert not equal(first, other)


def test_a_stage_begins_with_the_weights_of_the_one_before_at_its_own_step_0(small_run, group, tmp_path: Path):
    config = encoded_run(small_run, *TINY, "stage1.sample_every=100")
    before = prepared(config, tmp_path / "before")
    train_worker(before, CPU)
    trained = newest_readable(before.folder)
    job = replace(before, folder=tmp_path / "after", start=trained.path, model_seed=before.model_seed + 1)
    _, ema, state = start_training(job, CPU)
    assert state == TrainState()
    assert ema.num_updates == 6
    average = {name: tensor.full_tensor() for name, tensor in ema.average.items()}
    assert equal(average, exported(before))
    _, _, state = start_training(replace(job, folder=before.folder, start=tmp_path / "gone"), CPU)
    assert state.step == 6  # its own checkpoint comes first
    with pytest.raises(UserError, match=r"gone cannot be used \(it is missing\): .*--force"):
        start_training(replace(job, start=tmp_path / "gone"), CPU)


def test_samples_draw_as_the_stage_and_the_router_say(small_run):
    config = encoded_run(small_run, *TINY, "stage1.caption_dropout=0.25", "stage1.timesteps={type='uniform'}")
    job = make_job(Run(config).step("stage1"), Run(config))
    rule, router = draw_rule(job), config.model.fusion.router
    assert (rule.seed, rule.caption_dropout) == (job.seed, 0.25)
    assert rule.exploration == ExplorationRule(2, 3, router.top_k, router.epsilon)
    uniform = torch.tensor([0.25, 0.5])
    assert torch.equal(rule.timesteps(uniform), uniform)
    shifted = replace(job, stage=config.stage("stage2"))
    assert torch.equal(draw_rule(shifted).timesteps(uniform), timesteps(config.stage("stage2").timesteps, uniform))
    fixed = encoded_run(small_run, *TINY, "model.fusion={type='hand_crafted'}")
    assert draw_rule(replace(job, model=fixed.model)).exploration is None


def test_the_driver_knows_of_training_while_rank_0_is_in_it(small_run, group, tmp_path: Path):
    config = encoded_run(small_run, *TINY)
    job = replace(make_job(Run(config).step("stage1"), Run(config)), folder=tmp_path)
    request = StopRequest(tmp_path)
    with stoppable(job.folder) as vote:
        assert request.is_training()
        assert not vote.is_settled()
        request.ask()
        assert vote.is_settled()
    assert not request.is_training()
    with pytest.raises(ValueError, match="no luck"), stoppable(job.folder):
        raise ValueError("no luck")
    assert not request.is_training()


def test_metrics_go_on_behind_the_step_that_training_begins_with(small_run, group, tmp_path: Path):
    config = encoded_run(small_run, *TINY)
    job = replace(make_job(Run(config).step("stage1"), Run(config)), folder=tmp_path)
    lines = [StepMetrics(step, 0, 1.0, 1e-3, 1.0, 10.0, 0.0, 0) for step in (2, 4, 6)]
    with metrics_of(job.folder, 0) as report:
        for line in lines[:2]:
            report(line)
    with metrics_of(job.folder, 2) as report:
        report(lines[2])
    assert read_metrics(tmp_path) == [lines[0], lines[2]]


def test_a_spike_is_undone_and_its_batches_are_left_out(small_run, group, tmp_path: Path, monkeypatch):
    spiking = ("stage1.steps=18", "stage1.log_every=6", "stage1.checkpoint_every=6", "stage1.spikes={window=10}")
    config = encoded_run(small_run, *TINY, "stage1.sample_every=100", *spiking)
    told = prepared(config, tmp_path / "told")
    (told.folder / "skipped.json").write_text(json.dumps([asdict(Skipped(13, 14, 1.0, 1.0, []))]))
    train_worker(told, CPU)

    build = StageBatches.build

    def poisoned(source: StageBatches, step: int) -> Batch:
        batch = build(source, step)
        return replace(batch, latents=1000 * batch.latents) if step == 14 else batch

    monkeypatch.setattr(StageBatches, "build", poisoned)
    found = prepared(config, tmp_path / "found")
    notices = NewNotices(found.folder)
    train_worker(found, CPU)
    assert equal(exported(found), exported(told))
    (skipped,) = read_skipped(found.folder)
    assert (skipped.first, skipped.last) == (13, 14)
    assert skipped.loss > 1000 * skipped.usual
    assert 8 <= len(set(skipped.samples)) <= 16  # the smaller bucket repeats its samples within a batch
    assert len(newest_readable(found.folder).state.losses) == 10
    assert any("goes back to its last checkpoint" in line for line in notices.take())
    spent = goodput(read_spans(found.folder))
    assert spent.attempts == 2
    never = (*spiking[:3], "stage1.spikes={window=10, rewinds=0}")
    job = prepared(encoded_run(small_run, *TINY, "stage1.sample_every=100", *never), tmp_path / "never")
    with pytest.raises(UserError, match=r"0 spikes before it were undone, as many as spikes\.rewinds = 0"):
        train_worker(job, CPU)


def test_a_stage_starts_from_the_export_of_another_run(small_run, group, tmp_path: Path):
    first = prepared(encoded_run(small_run, *TINY), tmp_path / "first")
    train_worker(first, CPU)
    start = f"stage1.start={{type='weights', path='{first.folder / 'export'}'}}"
    second = prepared(encoded_run(small_run, *TINY, start, "stage1.ema_decay=0.5"), tmp_path / "second")
    engine, ema, state = start_training(second, CPU)
    given = exported(first)
    assert state == TrainState()
    for found in (engine.weights(), ema.average):
        assert all(torch.equal(tensor.full_tensor(), given[name]) for name, tensor in found.items())
    assert second.start is None
