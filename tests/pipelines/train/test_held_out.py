"""A stage measures its loss on what it is not trained on."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mos.errors import UserError
from mos.loader.index import SampleIndex
from mos.model.mos import MoS
from mos.training.held_out import read_held_out
from pipelines.run.steps import Run
from pipelines.train.driver import prepare
from pipelines.train.held_out import INDEX, HeldOutBatches, HeldOutMeasure
from pipelines.train.job import StageJob, make_job
from pipelines.train.samples import StageSamples
from pipelines.train.worker import train_worker
from tests.mos.training.gloo import process_group, run_ranks
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

    def drawn(*steps: int) -> list[torch.Tensor]:
        made = HeldOutBatches(index, job.tables, job.model).read(steps)
        return [torch.cat([batch.timesteps, batch.noise.flatten(), torch.from_numpy(source)]) for batch, source in made]

    assert all(torch.equal(one, other) for one, other in zip(drawn(0, 1), drawn(1, 0)[::-1], strict=True))


def measure(job: StageJob, folder: Path, micro_batch_size: int | None) -> None:
    """What a model at its start measures."""
    stage = job.stage.model_copy(update={"micro_batch_size": micro_batch_size, "held_out_samples": 33})
    model = MoS(job.model)
    model.init_weights(torch.Generator().manual_seed(0))
    shutil.copytree(job.folder / INDEX, folder / INDEX) if dist.get_rank() == 0 else None
    dist.barrier()
    HeldOutMeasure(replace(job, stage=stage, folder=folder), torch.device("cpu"), print)(model, 3)


def test_any_number_of_ranks_and_micro_batches_measure_the_same(job: StageJob, tmp_path: Path):
    losses = []
    for ranks, micro_batch_size in ((1, None), (2, 5), (2, None)):
        folder = tmp_path / f"{ranks}-{micro_batch_size}"
        folder.mkdir()
        run_ranks(measure, ranks, job, folder, micro_batch_size)
        (line,) = read_held_out(folder)
        losses.append((line.loss, line.samples, line.by_source))
    loss, samples, by_source = losses[0]
    for other, others_samples, others in losses[1:]:
        assert (other, others_samples) == (pytest.approx(loss, rel=1e-6), samples)
        assert others == pytest.approx(by_source, rel=1e-6)


def test_a_run_that_holds_nothing_out_is_told_what_to_set(small_run, tmp_path: Path):
    config = encoded_run(small_run, *MEASURED)
    made = replace(make_job(Run(config).step("stage1"), Run(config)), folder=tmp_path / "stage")
    with pytest.raises(UserError, match="set the run's held_out"):
        prepare(made, config)
