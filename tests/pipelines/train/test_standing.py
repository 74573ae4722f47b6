"""Where a stage stands, by the files in its folder."""

from pathlib import Path

import pytest

from mos.training.appended import AppendedFile, line_of
from mos.training.goodput import FILE, Span
from mos.training.metrics import StepMetrics
from pipelines.train.standing import LATEST_SPANS, cost_text, latest_speed, standing

START = Span(0.0, 4.0, 0, 0, 4.0, 0.0, 0.0, 0.0)


def spans(attempt: float, seconds: list[float]) -> list[Span]:
    """One span of two updates for each of some seconds."""
    return [Span(attempt, 0.0, 2 * (n + 1), 2, took, 0.0, 0.0, 0.0) for n, took in enumerate(seconds)]


def test_a_stage_that_has_not_begun_stands_at_nothing(tmp_path: Path) -> None:
    found = standing(tmp_path / "stage")
    assert (found.updates, found.saved, found.trains, found.silent) == (0, 0, False, ())
    assert found.loss is found.updates_per_s is found.spent is found.left_s(10) is None
    assert list(tmp_path.iterdir()) == []


def test_updates_are_those_of_the_last_line(tmp_path: Path) -> None:
    AppendedFile(tmp_path / FILE).add(line_of(START))
    assert standing(tmp_path).updates_per_s is None
    AppendedFile(tmp_path / FILE).add(line_of(spans(0.0, [0.5])[0]))
    AppendedFile(tmp_path / "metrics.jsonl").add(line_of(StepMetrics(2, 0, 0.25, 1e-3, 1.0, 8.0, 0.0, 0)))
    found = standing(tmp_path)
    assert (found.updates, found.saved, found.loss, found.updates_per_s) == (2, 0, 0.25, 4.0)
    assert (found.left_s(10), found.left_s(1)) == (2.0, 0.0)


def test_speed_is_that_of_late_and_of_the_newest_attempt() -> None:
    assert latest_speed([]) is None
    assert latest_speed([*spans(1.0, [9.0]), START]) is None
    assert latest_speed([*spans(1.0, [9.0]), *spans(2.0, [1.0, 3.0])]) == 1.0
    assert latest_speed(spans(1.0, [100.0] * 5 + [2.0] * LATEST_SPANS)) == 1.0


@pytest.mark.parametrize(
    ("workers", "text"),
    [
        (("cluster.train={num=2, cpus=3}", "plan.machine.type=cpu"), "6.00 core hours at 0.5 $ are 3.00 $"),
        (("cluster.train={num=2, gpus=1}", "plan.machine.type=gpu"), "2.00 GPU hours at 0.5 $ are 1.00 $"),
    ],
)
def test_what_it_cost_is_told_in_the_unit_that_is_paid_for(small_run, workers: tuple[str, str], text: str) -> None:
    assert cost_text(small_run(*workers, "plan.machine.train_hour=0.5"), 7200.0) == text
