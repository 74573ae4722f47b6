"""The batches of one training worker, whichever samples its steps are of."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist

from mos.feeding.recompute import RecomputedStates
from mos.feeding.stream import StreamedStates
from mos.loader.batch import Batch
from mos.loader.builder import BatchBuilder, DrawRule, Share, StatesSource
from mos.loader.left_out import LeftOutSamples
from mos.loader.plan import OneEpoch
from mos.loader.segments import Segment
from mos.tables.lance import rows_at
from mos.tables.payloads import LatentTable, RowCache
from mos.training.notices import Notices
from pipelines.train.job import StageJob
from pipelines.train.open_states import open_states, states_of_table
from pipelines.train.samples import StageSamples


class StageBatches:
    """One rank's share of every step of a stage.

    Args:
        job: the stage.
        rule: its random draws.
        device: where a tower beside the trainer runs.
        notices: of this rank.
    """

    def __init__(self, job: StageJob, rule: DrawRule, device: torch.device, notices: Notices) -> None:
        self.samples = StageSamples(job)
        self.cache = RowCache(job.stage.loader.cache_bytes)
        self.states: StatesSource = open_states(job, self.samples, self.cache, device)
        """Of the set of samples that is read now."""
        self._job = job
        self._rule = rule
        self._share = Share(dist.get_rank(), dist.get_world_size())
        self._notices = notices
        self._segments = self.samples.segments()
        self._segment: Segment | None = None
        self._builder: BatchBuilder

    def begin(self, step: int) -> None:
        """Announce to a stream that this step is read next."""
        if isinstance(self.states, StreamedStates):
            self.states.begin(step)

    def build(self, step: int) -> Batch:
        """The batch of one step, counted from the start of training."""
        self.begin(step)
        segment = self._segments.at(step)
        if segment != self._segment:
            self._open(segment)
        return self._builder.build(step)

    def sample_ids(self, steps: Sequence[int]) -> list[str]:
        """Ids of all samples in the batches of some steps, of all ranks, in no particular order."""
        ids: list[str] = []
        epochs = OneEpoch()
        for step in steps:
            segment = self._segments.at(step)
            index, plan = self._segments.load(segment)
            epoch, position = plan.locate(step)
            addresses = np.unique(index.address[epochs.of(plan, epoch).batch(position)]).tolist()
            samples = self.samples.tables(segment.samples).samples
            ids += rows_at(samples, ["sample_id"], addresses)["sample_id"].to_pylist()
        return ids

    def _open(self, segment: Segment) -> None:
        number, job = segment.samples, self._job
        tables = self.samples.tables(number)
        index, plan = self._segments.load(segment)
        if self._segment is not None and dist.get_rank() == 0:
            self._notices.say(f"{len(index)} samples from step {segment.step} on, where epoch {segment.epoch} begins")
        if number:
            self.cache.clear()
            if isinstance(self.states, (StreamedStates, RecomputedStates)):
                self.states.extend(self.samples.contexts(number))
            else:
                self.states = states_of_table(job, tables, self.cache)
        latents = LatentTable(tables.latents, self.cache)
        left_out = LeftOutSamples(index, tables.samples, self._notices.say)
        self._builder = BatchBuilder(plan, index, self.states, latents, self._rule, self._share, left_out.add)
        self._segment = segment
