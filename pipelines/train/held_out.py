"""The held-out loss of a stage: the samples that none trains on, joined by the driver, measured by all workers."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from mos.errors import UserError
from mos.flow.timestep import UniformTimesteps, timesteps
from mos.loader.batch import Batch, num_micro_batches
from mos.loader.builder import BatchBuilder, DrawRule, Share
from mos.loader.index import EncodedTables, SampleIndex, build_index
from mos.loader.plan import BatchPlan, make_plan
from mos.model.mos import ModelConfig, MoS
from mos.tables.payloads import LatentTable, RowCache, StateTable
from mos.training.held_out import HeldOutFile, HeldOutLoss, sum_losses
from pipelines.run.config import RunConfig
from pipelines.run.views import held_out_view
from pipelines.train.job import StageJob

SEED = 2**63 + 11
"""Of the order, noise and timesteps of held-out samples, the same for all runs; no training draws from it."""
BATCH = 16
"""Samples of one batch, for every run alike: which samples are measured, and on which noise, follows from it."""
INDEX = "held_out.npz"


def join_held_out(job: StageJob, config: RunConfig) -> None:
    """Leave the held-out samples of a stage, joined with their encodings, in its folder, if it measures on them.

    Raises:
        UserError: the run holds none out, or their states are in no table.
    """
    if job.stage.held_out_every is None:
        return
    if not config.held_out:
        raise UserError(
            f"{job.name}.held_out_every = {job.stage.held_out_every}, but held_out = 0: set the run's held_out to the "
            "share of samples that nothing is to be trained on, such as 0.01"
        )
    build_index(job.tables, held_out_view(config, job.name)).save(job.folder / INDEX)


class HeldOutMeasure:
    """Measures with the model as it is when called; rank 0 writes."""

    def __init__(self, job: StageJob, device: torch.device) -> None:
        self._job, self._device = job, device
        self._index = SampleIndex.load(job.folder / INDEX)
        self._file = HeldOutFile(job.folder) if dist.get_rank() == 0 else None

    def __call__(self, model: MoS, step: int) -> None:
        """Measure after so many updates. Collective: ranks take turns with whole batches, and as many each."""
        stage, sources = self._job.stage, self._index.sources
        rank, ranks = dist.get_rank(), dist.get_world_size()
        # One pass over them, or a batch of what there is where a pass fills none.
        num = min(-(-stage.held_out_samples // BATCH), max(1, num_batches(self._index, 1)))
        turns = [turn + rank for turn in range(0, num, ranks)]
        batches = held_out_batches(self._index, self._job.tables, self._job.model, [turn % num for turn in turns])
        moved = (
            (part.to(self._device) if turn < num else _uncounted(part).to(self._device), source)
            for turn, (batch, batch_source) in zip(turns, batches, strict=True)
            for part, source in _in_parts(batch, batch_source, stage.micro_batch_size)
        )
        sums = sum_losses(model, moved, len(sources)).to(self._device)
        dist.all_reduce(sums)
        if self._file is not None:
            self._file.write(HeldOutLoss.of(sums.cpu(), sources, step))


def num_batches(index: SampleIndex, passes: int) -> int:
    """Batches in so many passes over held-out samples; 0 where they do not fill one."""
    return _plan(index).first_step(passes)


def held_out_batches(
    index: SampleIndex, tables: EncodedTables, model: ModelConfig, steps: Iterable[int]
) -> Iterator[tuple[Batch, NDArray[np.integer]]]:
    """Batches of held-out samples and each sample's source: those of one number are the same for every run.

    Timesteps are uniform, no caption is dropped and no layer is chosen at random.

    Args:
        index: the samples.
        tables: where their encodings are.
        model: which hidden states are read.
        steps: numbers of the batches.
    """
    rule = DrawRule(SEED, partial(timesteps, UniformTimesteps()), 0.0, None)
    cache = RowCache(0)
    states, latents = StateTable(tables.states, cache, model.hidden_states), LatentTable(tables.latents, cache)
    builder = BatchBuilder(_plan(index), index, states, latents, rule, Share(0, 1), lambda sample, reason: None)
    for step in steps:
        yield builder.build(step), index.source[builder.rows(step)]


def _plan(index: SampleIndex) -> BatchPlan:
    return make_plan(index.group, index.source, batch_size=BATCH, seed=SEED)


def _in_parts(
    batch: Batch, source: NDArray[np.integer], size: int | None
) -> Iterator[tuple[Batch, NDArray[np.integer]]]:
    """Micro batches of at most `size` samples."""
    num, start = num_micro_batches(len(batch), 1, size), 0
    for part in batch.split(num):
        yield part, source[start : start + len(part)]
        start += len(part)


def _uncounted(batch: Batch) -> Batch:
    """A batch that another rank counts: this one has its forward pass with the others, and nothing to measure."""
    return replace(batch, weight=torch.zeros(len(batch)))
