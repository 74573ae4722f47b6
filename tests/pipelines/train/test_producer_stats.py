"""How much of its time a trainer waited: from the lines of its metrics."""

import pytest

from mos.training.metrics import StepMetrics
from pipelines.train.producer_stats import remedy, stall_share


def line(step: int, samples_per_s: float, data_wait: float) -> StepMetrics:
    return StepMetrics(step, 0, 1.0, 1e-3, 1.0, samples_per_s, data_wait, 0)


def test_the_first_window_does_not_count_and_slow_lines_weigh_more() -> None:
    lines = [line(10, 10.0, 0.9), line(20, 100.0, 0.0), line(30, 50.0, 0.6), line(40, 100.0, 0.0)]
    assert stall_share(lines, batch_size=10, first_step=10) == pytest.approx(1.2 / 4)
    assert stall_share(lines, batch_size=10, first_step=20) == pytest.approx(1.2 / 3)
    assert stall_share(lines[:1], batch_size=10, first_step=20) == 0.0


def test_who_was_idle_decides_the_remedy() -> None:
    assert "raise states.lead_mb" in remedy(stall=0.2, idle=0.55)
    assert "raise states.producers.max" in remedy(stall=0.2, idle=0.01)
