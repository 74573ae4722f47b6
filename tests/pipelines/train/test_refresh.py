"""A stage takes newer samples when an epoch begins; killed and resumed, it trains on the same ones."""

import os
import shutil
import signal
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mos.model.exported import WEIGHTS
from mos.training.metrics import latest_metrics, read_metrics
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.train.driver import prepare
from pipelines.train.job import StageJob
from pipelines.train.refresh import NewerSamples, taking_newer
from pipelines.train.samples import StageSamples
from pipelines.train.worker import train_worker
from tests.mos.training.gloo import process_group, run_ranks
from tests.pipelines.growing_run import BEGAN_WITH, STEPS, begun, curate_more

CPU = torch.device("cpu")


def newer_of(config: RunConfig, job: StageJob) -> NewerSamples:
    return NewerSamples(job, config, Run(config).step("stage1").curation.fingerprint)


def to_step(job: StageJob, steps: int) -> StageJob:
    return replace(job, stage=job.stage.model_copy(update={"steps": steps}), decay_steps=STEPS)


def moved(job: StageJob, folder: Path) -> StageJob:
    shutil.copytree(job.folder, folder)
    return replace(job, folder=folder)


def ids(job: StageJob) -> list[list[int]]:
    """Address of every sample of every step, as the decisions in a folder have it."""
    segments, found = StageSamples(job).segments(), []
    for step in range(STEPS):
        index, plan = segments.load(segments.at(step))
        epoch, position = plan.locate(step)
        found.append(index.address[plan.epoch(epoch).rows[position]].tolist())
    return found


def train_alone(job: StageJob, rendezvous: Path) -> None:
    with process_group(0, 1, rendezvous):
        train_worker(job, CPU)


def kill_at(job: StageJob, step: int) -> None:
    """Train with two ranks, and SIGKILL their process group once so many steps are done."""
    process = get_context("spawn").Process(target=_lead_a_group, args=(job,))
    process.start()
    while (latest := latest_metrics(job.folder)) is None or latest.step < step:
        assert process.is_alive()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _lead_a_group(job: StageJob) -> None:
    os.setpgid(0, 0)
    run_ranks(train_worker, 2, job, CPU)


@pytest.mark.timeout(600)
def test_newer_samples_are_taken_when_an_epoch_begins_and_a_killed_stage_ends_alike(tmp_path: Path, capsys):
    config, job = begun(tmp_path / "run")
    newer = newer_of(config, job)
    train_alone(to_step(job, 8), tmp_path / "first")  # an epoch has five steps
    shutil.rmtree(job.folder / "export")
    newer.look()
    assert StageSamples(job).newest() == 0
    curate_more(config)
    assert "stage1: keeps the samples it began with; newer ones come in its epochs" in _said(config, capsys)
    newer.look()
    newer.look()
    assert capsys.readouterr().out == "stage1: 14 samples, the newest, are trained on from the next epoch on\n"

    unbroken = moved(job, tmp_path / "unbroken")
    broken = moved(job, tmp_path / "broken")
    train_alone(unbroken, tmp_path / "second")
    kill_at(broken, 18)
    prepare(broken, config)  # a driver that starts again
    newer_of(config, broken).look()
    assert StageSamples(broken).newest() == 1
    run_ranks(train_worker, 2, broken, CPU)

    assert [*StageSamples(broken).taken()] == [{"samples": 1, "epoch": 2, "step": 10}]
    assert [*StageSamples(unbroken).taken()] == [*StageSamples(broken).taken()]
    trained = ids(broken)
    assert trained == ids(unbroken)
    assert len({sample for step in trained[:10] for sample in step}) == BEGAN_WITH
    assert sorted(sample for step in trained[10:17] for sample in step) == sorted(
        StageSamples(broken).index(1).address.tolist()
    )
    losses = [[(line.step, line.loss) for line in read_metrics(folder.folder)] for folder in (unbroken, broken)]
    assert [step for step, _ in losses[0]] == [*range(1, STEPS + 1)]
    for (step, one), (other_step, other) in zip(*losses, strict=True):
        assert (step, one) == (other_step, pytest.approx(other, rel=1e-5))
    one, other = (load_file(folder.folder / "export" / WEIGHTS) for folder in (unbroken, broken))
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-4)
    notices = "".join(path.read_text() for path in (broken.folder / "notices").iterdir())
    assert "14 samples from step 10 on, where epoch 2 begins" in notices


def _said(config: RunConfig, capsys: pytest.CaptureFixture) -> str:
    capsys.readouterr()
    Run(config).step("stage1")
    return capsys.readouterr().out


def test_newer_samples_that_do_not_fit_are_said_once_and_left(tmp_path: Path, capsys):
    config, job = begun(tmp_path / "run")
    newer = newer_of(config, job)
    curate_more(config, buckets=("32x34", None))
    capsys.readouterr()
    for _ in range(2):
        newer.look()
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith("stage1: the newest samples are not taken: bucket 32x34 is not a multiple of 4 px")
    assert StageSamples(job).newest() == 0


def test_a_driver_looks_while_its_stage_trains_if_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, job = begun(tmp_path / "run")
    monkeypatch.setattr("pipelines.train.refresh.LOOK_EVERY_S", 0.05)
    with taking_newer(None), taking_newer(newer_of(config, job)):
        curate_more(config)
        ended = time.monotonic() + 60
        while StageSamples(job).newest() == 0 and time.monotonic() < ended:
            time.sleep(0.05)
    assert StageSamples(job).newest() == 1
    assert StageSamples(job).curations() == [Run(config).newest_encoded()[0].fingerprint]
