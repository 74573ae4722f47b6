"""Where one training worker's hidden states come from, opened: a table, a stream, or a tower of its own."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from mos.encoders.encoding import EncodeConfig
from mos.feeding.config import CacheStates, RecomputeStates, StreamStates
from mos.feeding.progress import StreamProgress
from mos.feeding.recompute import Encode, RecomputedStates
from mos.feeding.schedule import Demand
from mos.feeding.stream import StreamedStates
from mos.loader.builder import StatesSource
from mos.loader.index import EncodedTables
from mos.tables.payloads import RowCache, StateTable
from mos.tables.state_tables import codec_of
from operators.context_encoder import ContextEncoder
from pipelines.train.job import StageJob
from pipelines.train.samples import StageSamples


def open_states(job: StageJob, samples: StageSamples, cache: RowCache, device: torch.device) -> StatesSource:
    """The stage's source of states for this rank, of the samples that the stage began with."""
    layers = job.model.hidden_states
    match job.states:
        case CacheStates():
            return states_of_table(job, job.tables, cache)
        case RecomputeStates():
            codec = codec_of(job.tables.states.open().schema, job.tables.states.uri)
            return RecomputedStates(samples.contexts(0), tower_of(job, device), codec, layers, cache)
        case StreamStates(timeout_s=timeout_s) as settings:
            states = StreamedStates(job.queue, samples.contexts(0), layers, cache, timeout_s=timeout_s)
            demand = stage_demand(job, samples, settings)
            progress = StreamProgress(job.folder / "stream")
            progress.keep_ranks(dist.get_world_size())
            states.report_to(progress, dist.get_rank(), demand)
            return states


def states_of_table(job: StageJob, tables: EncodedTables, cache: RowCache) -> StateTable:
    """The states that the model reads, of contexts that are encoded."""
    return StateTable(tables.states, cache, job.model.hidden_states)


def stage_demand(job: StageJob, samples: StageSamples, settings: StreamStates) -> Demand:
    """Contexts that the stage will ask for, window by window."""
    return Demand(
        samples.segments(),
        job.seed,
        job.stage.caption_dropout,
        steps=job.stage.steps,
        window_steps=settings.window_steps,
    )


def tower_of(job: StageJob, device: torch.device) -> Encode:
    """A tower on the worker's device, with the worker's threads."""
    encoder = ContextEncoder(_beside_training(job.encode, device), job.tables.samples, job.image_limits)

    def encode(tasks: list[dict], failures: dict[str, str]) -> Iterator[tuple[str, Tensor]]:
        for key, context in encoder.encode(tasks, failures):
            yield key, context.states

    return encode


def _beside_training(encode: EncodeConfig, device: torch.device) -> EncodeConfig:
    here = {"gpus": float(device.type == "cuda"), "cpus": torch.get_num_threads()}
    return encode.model_copy(update={"actors": encode.actors.model_copy(update=here)})
