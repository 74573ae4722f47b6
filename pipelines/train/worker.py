"""What every training worker runs: tables, model, engine and loop put together for one stage."""

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import torch
import torch.distributed as dist

from mos.encoders.load import load_codec
from mos.feeding.config import StreamStates
from mos.feeding.progress import StreamProgress
from mos.flow.timestep import timesteps
from mos.loader.builder import DrawRule
from mos.loader.index import NO_ROW
from mos.loader.prefetch import prefetch
from mos.loader.randomness import ExplorationRule
from mos.model.fusion import RoutedFusion
from mos.model.mos import MoS
from mos.sampling.preview import Preview, PreviewInputs
from mos.tables.payloads import LatentTable
from mos.training.checkpoint import newest_checkpoint, open_checkpoint
from mos.training.checkpoint_format import TrainState
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from mos.training.engine import Engine, build_engine
from mos.training.export import write_export
from mos.training.given_weights import load_checkpoint, load_export
from mos.training.goodput import Clock
from mos.training.loop import train
from mos.training.metrics import StepMetrics, metrics_of
from mos.training.notices import Notices
from mos.training.slow_ranks import SlowRanks
from mos.training.spikes import LossSpikeError, SkippedBatches, SpikeWatch
from mos.training.start import GivenWeights
from mos.training.stop import stoppable
from mos.training.whereabouts import Whereabouts, watched
from pipelines.train.batches import StageBatches
from pipelines.train.held_out import HeldOutMeasure
from pipelines.train.job import StageJob, preview_rows
from pipelines.train.ray_metrics import RayMetrics, ray_metrics


def train_worker(job: StageJob, device: torch.device) -> None:
    """One rank: train to the end of the stage from the newest checkpoint, then export; or to where it is stopped.

    Does nothing where the producers of its states have failed: the gang was restarted in vain, and the driver says why.
    """
    if isinstance(job.states, StreamStates) and StreamProgress(job.folder / "stream").failure is not None:
        return
    with watched(job.folder, job.stage.hung_after_s) as whereabouts:
        while not _attempt(job, device, whereabouts):
            pass


def _attempt(job: StageJob, device: torch.device, whereabouts: Whereabouts) -> bool:
    """Train from the newest checkpoint; False where that is to be done again, because the loss spiked."""
    stage, began = job.stage, time.time()
    engine, ema, state = start_training(job, device)
    whereabouts.at(state.step, "starting")
    notices = Notices(job.folder)
    watch = SpikeWatch(stage.spikes, state.losses) if stage.spikes is not None else None
    ray_seen = ray_metrics(job.export["run"]["name"], job.name) if dist.get_rank() == 0 else None
    left_out = SkippedBatches(job.folder, 0 if stage.spikes is None else stage.spikes.rewinds)
    source = StageBatches(job, draw_rule(job), device, notices)
    source.begin(state.step)
    preview = make_preview(job, source, device) if stage.sample_every else None
    held_out = HeldOutMeasure(job, device, notices.say) if stage.held_out_every else None
    checkpoints = Checkpoints(
        job.folder,
        job.provenance,
        keep=stage.keep_checkpoints,
        keep_every=stage.keep_checkpoints_every,
        background=stage.async_checkpoint,
        patience=stage.checkpoint_patience,
        first_step=state.step,
    )
    build = (lambda step: source.build(step).pin()) if device.type == "cuda" else source.build
    batches = prefetch(build, range(state.step, stage.steps), stage.loader.prefetch_batches)
    with closing(batches), metrics_of(job.folder, state.step) as report, stoppable(job.folder) as stop:
        try:
            state = train(
                engine,
                ema,
                batches,
                stage,
                state,
                checkpoints=checkpoints,
                report=told(report, ray_seen),
                sample_grid=preview,
                held_out=held_out,
                stop=stop,
                decay_steps=job.decay_steps,
                clock=clock_of(job, began, state.step, ray_seen),
                at=whereabouts.at,
                slow=SlowRanks(device, notices.say) if dist.get_world_size() > 1 else None,
                spikes=watch,
                left_out=left_out,
            )
        except LossSpikeError as spike:
            left_out.add(spike, source.sample_ids)
            if dist.get_rank() == 0:
                notices.say(f"{spike}: goes back to its last checkpoint and leaves these batches out")
            return False
    if state.step == stage.steps:
        write_export(job.folder / "export", engine, ema, job.export)
    return True


def told(report: Callable[[StepMetrics], None], seen: RayMetrics | None) -> Callable[[StepMetrics], None]:
    """Lines of metrics to this rank's files, and to Ray where it is told."""

    def both(line: StepMetrics) -> None:
        report(line)
        if seen is not None:
            seen.see(line)

    return both


def clock_of(job: StageJob, began: float, step: int, seen: RayMetrics | None) -> Clock:
    """The clock of an attempt; rank 0 keeps its time."""
    folder = job.folder if dist.get_rank() == 0 else None
    return Clock(folder, began, step, dist.get_world_size(), None if seen is None else seen.spent)


def start_training(job: StageJob, device: torch.device) -> tuple[Engine, Ema, TrainState]:
    """The sharded model with the weights to go on from: this stage's own, those it starts from, or new ones.

    No rank holds more of them meanwhile than its shards and two whole weights.
    """
    with torch.device("meta"):
        model = MoS(job.model)
    stage = job.stage
    engine = build_engine(stage.engine, stage.optimizer, model, device, recompute=stage.activation_checkpointing)
    own, given = newest_checkpoint(job.folder), stage.start
    if own is None and job.start is None:
        left = engine.fill(model.initial_weights(torch.Generator().manual_seed(job.model_seed)))
        assert not left, f"no values for {left}"
    if own is None and isinstance(given, GivenWeights) and not given.is_checkpoint:
        left = load_export(given, engine)
        if left and dist.get_rank() == 0:
            Notices(job.folder).say(f"{len(left)} weights keep new values, {given.path} has none: {', '.join(left)}")
    ema = Ema(engine.weights(), stage.ema_decay)
    if own is not None:
        own.restore(engine, ema, optimizer=True)
        return engine, ema, own.state
    if isinstance(given, GivenWeights) and given.is_checkpoint:
        load_checkpoint(given, engine, ema)
    elif job.start is not None:
        open_checkpoint(job.start).restore(engine, ema, optimizer=False)
    return engine, ema, TrainState()


def draw_rule(job: StageJob) -> DrawRule:
    """Settings of the random part of the stage's samples."""
    fusion, exploration = job.model.fusion, None
    if isinstance(fusion, RoutedFusion):
        router = fusion.router
        exploration = ExplorationRule(job.model.num_blocks, job.model.state_layers, router.top_k, router.epsilon)
    return DrawRule(job.seed, partial(timesteps, job.stage.timesteps), job.stage.caption_dropout, exploration)


def make_preview(job: StageJob, source: StageBatches, device: torch.device) -> Preview:
    """Pictures of the first captions in the view's largest bucket, of the samples that the stage began with."""
    index, states, latents = source.samples.index(0), source.states, LatentTable(job.tables.latents, source.cache)
    rows = preview_rows(job, index)
    references = index.reference[rows]
    inputs = PreviewInputs(
        contexts=states.read(index.state[rows].tolist()),
        null_contexts=states.read(index.null_state[rows].tolist()),
        latents=torch.stack(latents.read(index.latent[rows].tolist())),
        reference=torch.stack(latents.read(references.tolist())) if (references != NO_ROW).all() else None,
    )
    folder = job.folder / "samples" if dist.get_rank() == 0 else None
    return Preview(inputs, job.sampler, load_codec(job.vae, str(device)), folder, device, Notices(job.folder).say)
