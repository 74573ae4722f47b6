"""The held-out loss of a stage: the samples that none trains on, joined by the driver, measured by all workers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from mos.errors import UserError
from mos.flow.timestep import UniformTimesteps, timesteps
from mos.loader.batch import Batch
from mos.loader.builder import BatchBuilder, DrawRule, Share
from mos.loader.index import EncodedTables, SampleIndex
from mos.loader.join import build_index
from mos.loader.left_out import LeftOutSamples
from mos.loader.plan import make_plan
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
INDEX = "held_out"


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
    build_index(job.tables, held_out_view(config, job.name), job.folder / INDEX)


class HeldOutBatches:
    """Batches of held-out samples: those of one number are the same for every run.

    Timesteps are uniform, no caption is dropped and no layer is chosen at random.
    """

    def __init__(
        self,
        index: SampleIndex,
        tables: EncodedTables,
        model: ModelConfig,
        leave_out: Callable[[int, str], None] | None = None,
    ) -> None:
        """`leave_out` as in `BatchBuilder`; `tables` have the samples' encodings, of which the model reads some."""
        cache, rule = RowCache(0), DrawRule(SEED, partial(timesteps, UniformTimesteps()), 0.0, None)
        states, latents = StateTable(tables.states, cache, model.hidden_states), LatentTable(tables.latents, cache)
        plan = make_plan(index.cells, batch_size=BATCH, seed=SEED)
        self._index = index
        self._builder = BatchBuilder(plan, index, states, latents, rule, Share(0, 1), leave_out)

    def num(self, passes: int) -> int:
        """Batches in so many passes over the samples; 0 where these do not fill one."""
        return self._builder.plan.first_step(passes)

    def counts(self, numbers: Iterable[int]) -> dict[str, int]:
        """Samples of each source in some batches, those of several batches as often."""
        rows = np.concatenate([np.empty(0, dtype=np.int64), *(self._builder.rows(number) for number in numbers)])
        counts = np.bincount(self._index.source[rows], minlength=len(self._index.sources))
        return dict(zip(self._index.sources, counts.tolist(), strict=True))

    def read(self, numbers: Iterable[int]) -> Iterator[tuple[Batch, NDArray[np.integer]]]:
        """Batches by their numbers, each with the source number of every sample."""
        for number in numbers:
            yield self._builder.build(number), self._index.source[self._builder.rows(number)]


class HeldOutMeasure:
    """Measures with the model as it is when called; rank 0 writes."""

    def __init__(self, job: StageJob, device: torch.device, say: Callable[[str], None]) -> None:
        """`say` is told of a sample that cannot be measured on."""
        self._stage, self._device = job.stage, device
        index = SampleIndex.load(job.folder / INDEX)
        left_out = LeftOutSamples(index, job.tables.samples, say)
        self._sources = index.sources
        self._batches = HeldOutBatches(index, job.tables, job.model, left_out.add)
        # One pass over them, or a batch of what there is where a pass fills none.
        self._num = min(-(-job.stage.held_out_samples // BATCH), max(1, self._batches.num(1)))
        self._file = HeldOutFile(job.folder) if dist.get_rank() == 0 else None

    def __call__(self, model: MoS, step: int) -> None:
        """Measure after so many updates. Collective: ranks take turns with whole batches, and as many each."""
        batches = self._turns(dist.get_rank(), dist.get_world_size())
        sums = sum_losses(model, batches, len(self._sources), self._device, self._stage.micro_batch_size)
        sums = sums.to(self._device)
        dist.all_reduce(sums)
        if self._file is not None:
            self._file.write(HeldOutLoss.of(sums.cpu(), self._sources, step))

    def _turns(self, rank: int, ranks: int) -> Iterator[tuple[Batch, NDArray[np.integer]]]:
        """Every `ranks`-th batch; in the last turn, if there is none left for this rank, one that does not count."""
        turns = [first + rank for first in range(0, self._num, ranks)]
        for turn, (batch, source) in zip(turns, self._batches.read(turn % self._num for turn in turns), strict=True):
            counts = turn < self._num
            yield batch if counts else replace(batch, weight=torch.zeros(len(batch))), source
