"""The training loop of one stage, its step and its loss: batches in, weights, average, checkpoints, metrics out."""

import time
from collections.abc import Callable, Container, Iterable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from mos.flow.loss import velocity_loss
from mos.flow.path import interpolate, velocity
from mos.loader.batch import Batch, num_micro_batches
from mos.model.mos import MoS
from mos.training.checkpoint_format import TrainState
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from mos.training.engine import Engine
from mos.training.goodput import Clock
from mos.training.meter import Meter, StepResult
from mos.training.metrics import StepMetrics
from mos.training.nonfinite import SkippedUpdates
from mos.training.optimizer import learning_rate
from mos.training.slow_ranks import SlowRanks
from mos.training.spikes import LossSpikeError, SpikeWatch
from mos.training.stage import StageConfig
from mos.training.stop import StopVote
from mos.training.whereabouts import Doing

WithAverage = Callable[[MoS, int], None]
"""Draws pictures or measures a loss with the model, which then carries the EMA weights, after so many steps. Every rank
calls it at the same time; one of them writes what came out."""


def train(
    engine: Engine,
    ema: Ema,
    batches: Iterable[Batch],
    stage: StageConfig,
    state: TrainState,
    *,
    checkpoints: Checkpoints,
    report: Callable[[StepMetrics], None],
    sample_grid: WithAverage | None = None,
    held_out: WithAverage | None = None,
    stop: StopVote | None = None,
    decay_steps: int | None = None,
    clock: Clock | None = None,
    at: Callable[[int, Doing], None] = lambda step, doing: None,
    slow: SlowRanks | None = None,
    spikes: SpikeWatch | None = None,
    left_out: Container[int] = (),
) -> TrainState:
    """Train from `state` to the end of the stage, or to where it is stopped. Collective.

    No step waits for the device: what is on it is read when a line of metrics or a checkpoint is due.

    Args:
        engine: the sharded model, holding the weights of `state`.
        ema: the average that follows it.
        batches: this rank's shares from step `state.step` on; as many as the stage has left.
        stage: length, schedule and intervals.
        state: counters to start from.
        checkpoints: where weights go at every interval and at the end.
        report: receives a line of metrics on every rank.
        sample_grid: called every `stage.sample_every` steps and at the end.
        held_out: called every `stage.held_out_every` steps and at the end.
        stop: says after which step to write a checkpoint and leave, if not at the end.
        decay_steps: updates over which the learning rate decays where the stage does not say; None: all of it.
        clock: takes the time of this attempt.
        at: told what comes next, after so many updates.
        slow: compares the ranks whenever a line of metrics is due.
        spikes: judges the losses whenever a line of metrics or a checkpoint is due, before it is written.
        left_out: steps whose batches are not trained on; they count as done.

    Returns:
        Counters of the last checkpoint; their step is less than `stage.steps` where training was stopped.

    Raises:
        UserError: more updates than the stage tolerates had a non-finite gradient.
        LossSpikeError: the loss spiked, after the last checkpoint, which is written in full.
    """
    clock = clock or Clock(None, time.time(), state.step)
    meter = Meter(clock, engine.model.shape, engine.device)
    skipped = SkippedUpdates(state.nonfinite_steps, stage.max_nonfinite_steps, engine.device)
    step = state.step
    at(step, "reading a batch")
    for batch in meter.watch(batches):
        at(step, "updating")
        lr = learning_rate(stage.optimizer, step, decay_steps or stage.steps)
        if step not in left_out:
            result = update(engine, batch, lr, batch_size=stage.batch_size, micro_batch_size=stage.micro_batch_size)
            ema.update(engine.weights())
            skipped.add(result.grad_norm)
            meter.add(batch, result)
            if spikes is not None:
                spikes.add(step, result.loss)
        step += 1
        stops = stop is not None and stop.is_settled()
        logs, saves = _due(step, stage.log_every, stage.steps), _due(step, stage.checkpoint_every, stage.steps) or stops
        if logs or saves:
            _look_for_spikes(spikes, checkpoints, stop)
            state = TrainState(step, skipped.read(step), () if spikes is None else spikes.recent)
        if logs and meter.has_updates:
            line = meter.line(state, lr)
            report(line)
            if slow is not None:
                slow.see(line.data_wait)
        at(step, "writing a checkpoint")
        with clock.spent_on("checkpoints"):
            checkpoints.poll()
            if saves:
                checkpoints.save(engine, ema, state)
        lookers = ((stage.sample_every, sample_grid), (stage.held_out_every, held_out))
        looks = [look for every, look in lookers if look is not None and every and _due(step, every, stage.steps)]
        if looks:
            at(step, "looking at the average")
            with clock.spent_on("looks"), ema.swapped_into(engine):
                for look in looks:
                    look(engine.model, step)
        if logs:
            clock.line(step)
        if stops:
            break
        at(step, "reading a batch")
    at(step, "ending")
    if stop is not None:
        stop.close()
    with clock.spent_on("checkpoints"):
        checkpoints.finish()
    clock.end(step)
    return state


def _look_for_spikes(spikes: SpikeWatch | None, checkpoints: Checkpoints, stop: StopVote | None) -> None:
    """Raise `LossSpikeError` where there is one, when nothing of this attempt is under way any more."""
    try:
        if spikes is not None:
            spikes.look()
    except LossSpikeError:
        if stop is not None:
            stop.close()
        checkpoints.finish()
        raise


def update(
    engine: Engine, batch: Batch, lr: float, *, batch_size: int | None = None, micro_batch_size: int | None = None
) -> StepResult:
    """One optimiser step (Algorithm 1) on a global batch, of which `batch` is this rank's share, on the CPU.

    The gradient is that of the mean over the global batch, whatever the number of ranks and of micro batches and
    whether they divide it; nothing waits for the device.

    Args:
        engine: the sharded model.
        batch: this rank's share.
        lr: learning rate.
        batch_size: of the global batch; None: every rank has as many samples as this one.
        micro_batch_size: samples of a forward pass at most; None: the whole share.
    """
    ranks = dist.get_world_size()
    batch_size = batch_size or ranks * len(batch)
    total, num = torch.zeros((), device=engine.device), num_micro_batches(batch_size, ranks, micro_batch_size)
    for number, part in enumerate(batch.split(num)):
        # The engine takes the mean over the ranks.
        loss = sample_losses(engine.model, part.to(engine.device)).sum() * (ranks / batch_size)
        engine.backward(loss, last=number == num - 1)
        total += loss.detach()
    return StepResult(total, engine.step(lr))


def sample_losses(model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
    """Loss of each sample: squared error of the velocity at its own z_t; 0 for a sample that is left out."""
    z_t = interpolate(batch.latents, batch.noise, batch.timesteps)
    predicted = model(z_t, batch.timesteps, batch.context, reference=batch.reference, exploration=batch.exploration)
    losses = velocity_loss(predicted, velocity(batch.latents, batch.noise))
    return losses if batch.weight is None else losses * batch.weight


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last
