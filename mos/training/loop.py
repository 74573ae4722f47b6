"""The training loop of one stage: batches in, weights, average, checkpoints and metrics out."""

import math
from collections.abc import Callable, Iterable

from mos.data.batch import Batch
from mos.errors import UserError
from mos.model.mos import MoS
from mos.training.checkpoint import Checkpoints, TrainState
from mos.training.ema import Ema
from mos.training.engine import Engine
from mos.training.meter import Meter
from mos.training.metrics import StepMetrics
from mos.training.optimizer import learning_rate
from mos.training.stage import StageConfig
from mos.training.step import StepResult, update

SampleGrid = Callable[[MoS, int], None]
"""Draws pictures with the model, which then carries the EMA weights, after so many steps. Every rank calls it at the
same time; one of them writes the pictures."""


def train(
    engine: Engine,
    ema: Ema,
    batches: Iterable[Batch],
    stage: StageConfig,
    state: TrainState,
    *,
    checkpoints: Checkpoints,
    report: Callable[[StepMetrics], None],
    sample_grid: SampleGrid | None = None,
) -> TrainState:
    """Train from `state` to the end of the stage. Collective.

    Args:
        engine: the sharded model, holding the weights of `state`.
        ema: the average that follows it.
        batches: this rank's shares from step `state.step` on; as many as the stage has left.
        stage: length, schedule and intervals.
        state: counters to start from.
        checkpoints: where weights go at every interval and at the end.
        report: receives a line of metrics on every rank.
        sample_grid: called every `stage.sample_every` steps and at the end.

    Raises:
        UserError: more updates than the stage tolerates had a non-finite gradient.
    """
    meter = Meter()
    for batch in meter.watch(batches):
        lr = learning_rate(stage.optimizer, state.step, stage.steps)
        result = update(engine, batch.to(engine.device), lr, stage.micro_batch_size)
        state = account(state, result, stage.max_nonfinite_steps)
        if math.isfinite(result.grad_norm):
            ema.update(engine.weights())
        meter.add(batch, result)
        if _due(state.step, stage.log_every, stage.steps):
            report(meter.line(state, lr))
        checkpoints.poll()
        if _due(state.step, stage.checkpoint_every, stage.steps):
            checkpoints.save(engine, ema, state)
        if sample_grid is not None and stage.sample_every and _due(state.step, stage.sample_every, stage.steps):
            with ema.swapped_into(engine.weights()):
                sample_grid(engine.model, state.step)
    checkpoints.finish()
    return state


def account(state: TrainState, result: StepResult, max_nonfinite_steps: int) -> TrainState:
    """The counters after an update.

    Raises:
        UserError: this update's gradient was not finite, and one too many were not.
    """
    bad = state.nonfinite_steps + (not math.isfinite(result.grad_norm))
    if bad > max_nonfinite_steps:
        raise UserError(
            f"{bad} updates had a non-finite gradient, the latest at step {state.step} (norm {result.grad_norm}, loss "
            f"{result.loss.item()}): lower optimizer.lr, lengthen the warm-up or raise max_nonfinite_steps"
        )
    return TrainState(state.step + 1, bad)


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last
