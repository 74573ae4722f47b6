"""Where one training worker's hidden states come from, opened: a table, a stream, or a tower of its own."""

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from mos.encoders.encoding import EncodeConfig
from mos.feeding.config import CacheStates, RecomputeStates, StreamStates
from mos.feeding.contexts import load_contexts
from mos.feeding.progress import StreamProgress
from mos.feeding.recompute import Encode, RecomputedStates
from mos.feeding.schedule import Demand
from mos.feeding.stream import StreamedStates
from mos.loader.batch import Batch
from mos.loader.builder import BatchBuilder, StatesSource
from mos.loader.index import SampleIndex
from mos.tables.payloads import RowCache, StateTable
from mos.tables.state_tables import codec_of
from operators.context_encoder import ContextEncoder
from pipelines.train.job import StageJob, stage_plan


def open_states(job: StageJob, index: SampleIndex, cache: RowCache, device: torch.device) -> StatesSource:
    """The stage's source of states for this rank."""
    layers = job.model.hidden_states
    match job.states:
        case CacheStates():
            return StateTable(job.tables.states, cache, layers)
        case RecomputeStates():
            contexts = load_contexts(job.folder / "contexts.arrow")
            codec = codec_of(job.tables.states.open().schema, job.tables.states.uri)
            return RecomputedStates(contexts, tower_of(job, device), codec, layers, cache)
        case StreamStates(timeout_s=timeout_s) as settings:
            contexts = load_contexts(job.folder / "contexts.arrow")
            states = StreamedStates(job.queue, contexts, layers, cache, timeout_s=timeout_s)
            demand = stage_demand(job, index, settings)
            states.report_to(StreamProgress(job.folder / "stream"), dist.get_rank(), demand)
            return states


def stage_demand(job: StageJob, index: SampleIndex, settings: StreamStates) -> Demand:
    """Contexts that the stage will ask for, window by window."""
    return Demand(
        stage_plan(job, index),
        index,
        job.seed,
        job.stage.caption_dropout,
        steps=job.stage.steps,
        window_steps=settings.window_steps,
    )


def announced(builder: BatchBuilder, states: StatesSource, first_step: int) -> Callable[[int], Batch]:
    """`builder.build` that tells a stream how far this rank is, from now on."""
    if not isinstance(states, StreamedStates):
        return builder.build
    states.begin(first_step)

    def build(step: int) -> Batch:
        states.begin(step)
        return builder.build(step)

    return build


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
