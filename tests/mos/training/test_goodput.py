"""Where the time of a stage went: every second has one cause, and what was done twice counts once."""

from dataclasses import replace
from pathlib import Path

import pytest

from mos.training.goodput import Clock, Span, goodput, read_spans

FIRST = [
    Span(1000.0, 1010.0, 0, 0, 10.0, 0.0, 0.0, 0.0),
    Span(1000.0, 1030.0, 10, 10, 20.0, 2.0, 3.0, 5.0),
    Span(1000.0, 1050.0, 20, 10, 20.0, 0.0, 0.0, 0.0),
]
SECOND = [Span(1100.0, 1104.0, 15, 0, 4.0, 0.0, 0.0, 0.0), Span(1100.0, 1124.0, 25, 10, 20.0, 0.0, 0.0, 0.0)]


def test_an_unbroken_stage_loses_what_it_waits_for():
    spent = goodput(FIRST)
    assert spent is not None
    assert (spent.start, spent.data, spent.checkpoints, spent.looks) == (10.0, 2.0, 3.0, 5.0)
    assert (spent.training, spent.redone, spent.down, spent.attempts) == (30.0, 0.0, 0.0, 1)
    assert spent.wall == 50.0
    assert spent.share == pytest.approx(0.6)
    assert spent.text() == (
        "60% of 50 s went to updates; the rest: starting 10 s, previews and held-out losses 5 s, checkpoints 3 s, "
        "data 2 s"
    )


def test_updates_that_a_later_attempt_did_again_and_the_time_between_do_not_count():
    spent = goodput(FIRST + SECOND)
    assert spent is not None
    assert (spent.redone, spent.down, spent.start) == (10.0, 50.0, 14.0)  # half of the span from 10 to 20
    assert spent.training == 10.0 + 10.0 + 20.0
    assert spent.wall == 124.0  # 1000 to 1124
    assert "in 2 attempts" in spent.text()


def test_what_was_done_three_times_counts_once():
    third = [replace(span, attempt=1200.0, at=span.at + 100.0) for span in SECOND]
    third[0] = replace(third[0], step=12)
    third[1] = replace(third[1], step=22)
    spent = goodput(FIRST + SECOND + third)
    assert spent is not None
    assert spent.training == pytest.approx(10.0 + 20.0 * 0.2 + 20.0)
    assert spent.redone == pytest.approx(20.0 * 0.8 + 20.0)
    assert goodput([]) is None


def test_the_time_after_an_attempt_that_left_in_order_is_nobodys_loss():
    last = Span(1000.0, 1051.0, 20, 0, 1.0, 0.0, 0.75, 0.0, ended=True)
    later = [replace(span, step=span.step + 5) for span in SECOND]
    spent = goodput([*FIRST, last, *later])
    assert spent is not None
    assert (spent.down, spent.redone, spent.checkpoints) == (0.0, 0.0, 3.75)
    assert spent.wall == 51.0 + 24.0


def test_a_clock_writes_what_the_account_is_made_of(tmp_path: Path):
    clock = Clock(tmp_path, began=500.0, first_step=7)
    with clock.spent_on("checkpoints"):
        pass
    clock.add("data", 0.25)
    clock.line(9)
    clock.end(12)
    with (tmp_path / "time.jsonl").open("a") as torn:
        torn.write('{"attempt": 5')
    start, first, second = read_spans(tmp_path)
    assert (start.attempt, start.step, start.updates) == (500.0, 7, 0)
    assert (first.step, first.updates, first.data, first.checkpoints > 0) == (9, 2, 0.25, True)
    assert (second.step, second.updates, second.data, second.checkpoints) == (12, 3, 0.0, 0.0)
    assert (start.ended, first.ended, second.ended) == (False, False, True)
    assert read_spans(tmp_path / "nowhere") == []


def test_ranks_that_write_nothing_take_the_time_all_the_same():
    Clock(None, 0.0, 0).line(3)
