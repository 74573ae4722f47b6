"""A rank's batches across a change of samples: the same from a table and from a tower beside the trainer."""

from dataclasses import replace
from pathlib import Path

import torch

from mos.feeding.config import RecomputeStates
from mos.states.quantise import dequantise
from mos.training.notices import NewNotices, Notices
from pipelines.train.batches import StageBatches
from pipelines.train.driver import prepare
from pipelines.train.job import StageJob
from pipelines.train.refresh import NewerSamples
from pipelines.train.samples import StageSamples
from pipelines.train.worker import draw_rule
from tests.mos.training.gloo import process_group
from tests.pipelines.growing_run import STEPS, begun, curate_more


def batches(job: StageJob) -> list:
    source = StageBatches(job, draw_rule(job), torch.device("cpu"), Notices(job.folder))
    return [source.build(step) for step in range(STEPS)]


def test_newer_samples_reach_a_rank_alike_from_a_table_and_from_a_tower(tmp_path: Path):
    config, cached = begun(tmp_path / "run")
    recomputed = replace(cached, states=RecomputeStates(), folder=tmp_path / "recomputed")
    prepare(recomputed, config)
    for job in (cached, recomputed):
        StageSamples(job).segments().at(0)  # of the samples that it began with
    curate_more(config)
    for job in (cached, recomputed):
        NewerSamples(job, config, "").look()
    with process_group(0, 1, tmp_path / "rendezvous"):
        said = NewNotices(cached.folder)
        ours, theirs = batches(cached), batches(recomputed)
        assert said.take() == ["14 samples from step 5 on, where epoch 1 begins"]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.epoch, one.step) == (other.epoch, other.step)
        assert torch.equal(one.latents, other.latents)
        assert torch.equal(one.noise, other.noise)
        assert torch.equal(dequantise(one.context.states), dequantise(other.context.states))
    assert [batch.epoch for batch in ours] == [0] * 5 + [1] * 7 + [2] * 7 + [3] * 7
