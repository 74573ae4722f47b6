"""Lines of metrics are means over the updates since the line before."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mos.loader.batch import Batch
from mos.training import goodput
from mos.training.checkpoint_format import TrainState
from mos.training.meter import Meter, StepResult
from tests.mos.training.tiny import MODEL, tiny_batch


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("mos.training.meter.time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def new_meter() -> Meter:
    return Meter(goodput.Clock(None, 0.0, 0), MODEL, torch.device("cpu"))


def slow_batches(clock: Clock, *waits: float) -> Iterator[Batch]:
    for step, seconds in enumerate(waits):
        clock.now += seconds
        yield tiny_batch(step)


def result(loss: float, grad_norm: float = 0.5) -> StepResult:
    return StepResult(torch.tensor(loss), torch.tensor(grad_norm))


def test_losses_are_averaged_and_the_rest_is_of_the_latest_update(group):
    meter = new_meter()
    for step, loss in enumerate((1.0, 3.0)):
        meter.add(replace(tiny_batch(step), epoch=step + 5), result(loss, grad_norm=loss / 4))
    line = meter.line(TrainState(2, nonfinite_steps=1), 1e-3)
    assert (line.step, line.loss, line.lr, line.nonfinite_steps) == (2, 2.0, 1e-3, 1)
    assert (line.epoch, line.grad_norm) == (6, 0.75)


def test_time_spent_waiting_for_batches_is_told_from_time_spent_training(group, clock: Clock):
    """Waits of 1 s and 2 s, updates of 3 s each: 3 of 9 s waited, 16 samples in 9 s."""
    meter = new_meter()
    for batch in meter.watch(slow_batches(clock, 1.0, 2.0)):
        clock.now += 3.0
        meter.add(batch, result(1.0))
    line = meter.line(TrainState(2), 1e-3)
    assert line.data_wait == pytest.approx(1 / 3)
    assert line.samples_per_s == pytest.approx(16 / 9)


def test_a_line_begins_where_the_one_before_ended(group, clock: Clock):
    meter = new_meter()
    lines = []
    for batch in meter.watch(slow_batches(clock, 4.0, 1.0)):
        weight = torch.tensor([0.0, 1, 1, 1, 1, 1, 1, 0]) if batch.step == 0 else None
        clock.now += 1.0
        meter.add(replace(batch, weight=weight), result(float(batch.step)))
        lines.append(meter.line(TrainState(batch.step + 1), 1e-3))
    assert [line.loss for line in lines] == [0.0, 1.0]
    assert [line.data_wait for line in lines] == [0.8, 0.5]
    assert [line.samples_per_s for line in lines] == [1.6, 4.0]
    assert [line.left_out for line in lines] == [2, 0]


def test_the_same_batches_come_in_the_same_order():
    batches = [tiny_batch(step) for step in range(3)]
    assert all(one is other for one, other in zip(new_meter().watch(batches), batches, strict=True))
