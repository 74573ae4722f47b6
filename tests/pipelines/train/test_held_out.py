"""A stage measures its loss on what it is not trained on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mos.errors import UserError
from mos.loader.builder import Share
from mos.loader.index import SampleIndex
from mos.training.held_out import read_held_out
from pipelines.run.steps import Run
from pipelines.train.driver import prepare
from pipelines.train.held_out import INDEX, held_out_batches
from pipelines.train.job import StageJob, make_job
from pipelines.train.samples import StageSamples
from pipelines.train.worker import train_worker
from tests.mos.training.gloo import process_group
from tests.pipelines.trained_run import encoded_run, stage

MEASURED = stage("stage1", "held_out_every=4", "held_out_samples=10")


@pytest.fixture
def job(small_run, tmp_path: Path) -> StageJob:
    config = encoded_run(small_run, *MEASURED, "held_out=0.3")
    made = replace(make_job(Run(config).step("stage1"), Run(config)), folder=tmp_path / "stage")
    prepare(made, config)
    return made


def test_it_is_measured_at_every_interval_and_at_the_end(job: StageJob, tmp_path: Path):
    with process_group(0, 1, tmp_path / "rendezvous"):
        train_worker(job, torch.device("cpu"))
    first, last = read_held_out(job.folder)
    assert (first.step, last.step) == (4, 6)
    assert first.samples == last.samples == 16  # whole batches of 8
    assert first.loss != last.loss
    assert first.by_source.keys() == {"a", "b"}
    assert list((job.folder / "tensorboard").glob("*.held_out"))


def test_what_is_measured_on_is_trained_on_by_no_step(job: StageJob):
    held_out, trained = SampleIndex.load(job.folder / INDEX), StageSamples(job).index(0)
    assert len(held_out) > 0
    assert not {*held_out.latent.tolist()} & {*trained.latent.tolist()}


def test_its_batches_are_the_same_every_time_and_for_any_number_of_ranks(job: StageJob):
    index = SampleIndex.load(job.folder / INDEX)

    def drawn(share: Share) -> list[torch.Tensor]:
        made = held_out_batches(index, job.tables, job.model, 8, 3, share)
        return [torch.cat([batch.timesteps, batch.noise.flatten(), torch.from_numpy(source)]) for batch, source in made]

    whole = drawn(Share(0, 1))
    assert all(torch.equal(one, other) for one, other in zip(whole, drawn(Share(0, 1)), strict=True))
    halves = [drawn(Share(rank, 2)) for rank in range(2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(batch.sort().values, torch.cat(parts).sort().values)


def test_a_run_that_holds_nothing_out_is_told_what_to_set(small_run, tmp_path: Path):
    config = encoded_run(small_run, *MEASURED)
    made = replace(make_job(Run(config).step("stage1"), Run(config)), folder=tmp_path / "stage")
    with pytest.raises(UserError, match="set the run's held_out"):
        prepare(made, config)
