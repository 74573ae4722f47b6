"""The held-out loss of a stage: the samples that none trains on, joined by the driver, measured by all workers."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from mos.errors import UserError
from mos.flow.timestep import UniformTimesteps, timesteps
from mos.loader.batch import Batch
from mos.loader.builder import BatchBuilder, DrawRule, Share
from mos.loader.index import EncodedTables, SampleIndex, build_index
from mos.loader.plan import make_plan
from mos.model.mos import ModelConfig, MoS
from mos.tables.payloads import LatentTable, RowCache, StateTable
from mos.training.held_out import HeldOutFile, HeldOutLoss, sum_losses
from pipelines.run.config import RunConfig
from pipelines.run.views import held_out_view
from pipelines.train.job import StageJob

SEED = 2**63 + 11
"""Of the order, noise and timesteps of held-out samples, the same for all runs; no training draws from it."""
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
        """Measure after so many updates. Collective."""
        stage, sources = self._job.stage, self._index.sources
        share = Share(dist.get_rank(), dist.get_world_size())
        steps = -(-stage.held_out_samples // stage.batch_size)
        batches = held_out_batches(self._index, self._job.tables, self._job.model, stage.batch_size, steps, share)
        moved = ((batch.to(self._device), source) for batch, source in batches)
        sums = sum_losses(model, moved, len(sources)).to(self._device)
        dist.all_reduce(sums)
        if self._file is not None:
            self._file.write(HeldOutLoss.of(sums.cpu(), sources, step))


def held_out_batches(
    index: SampleIndex, tables: EncodedTables, model: ModelConfig, batch_size: int, steps: int, share: Share
) -> Iterator[tuple[Batch, NDArray[np.integer]]]:
    """One rank's share of the first batches of held-out samples and each sample's source, always the same ones.

    Timesteps are uniform, no caption is dropped and no layer is chosen at random.

    Args:
        index: the samples.
        tables: where their encodings are.
        model: which hidden states are read.
        batch_size: over all ranks.
        steps: number of batches.
        share: of the rank.
    """
    plan = make_plan(index.group, index.source, batch_size=batch_size, seed=SEED)
    rule = DrawRule(SEED, partial(timesteps, UniformTimesteps()), 0.0, None)
    cache = RowCache(0)
    states, latents = StateTable(tables.states, cache, model.hidden_states), LatentTable(tables.latents, cache)
    builder = BatchBuilder(plan, index, states, latents, rule, share, lambda sample, reason: None)
    for step in range(steps):
        yield builder.build(step), index.source[builder.rows(step)]
