"""Intervals: known ones, and how often they hold the truth."""

import numpy as np
import pytest
from scipy.stats import binomtest, t

from mos.benchmarks.score import Score, mean, share, weighted


def test_one_picture_a_prompt_has_wilsons_interval() -> None:
    found = share([[True]] * 70 + [[False]] * 30)
    known = binomtest(70, 100).proportion_ci(0.95, method="wilson")
    assert found.value == pytest.approx(0.7)
    assert found.margin == pytest.approx((known.high - known.low) / 2, rel=0.02)  # the variance is of 99 degrees


@pytest.mark.parametrize("right", [True, False])
def test_shares_that_leave_no_doubt_still_have_an_interval(right: bool) -> None:
    found = share([[right] * 4] * 50)
    known = binomtest(50 if right else 0, 50).proportion_ci(0.95, method="wilson")
    assert found.margin == pytest.approx((known.high - known.low) / 2)


def test_pictures_that_repeat_their_prompts_tell_no_more_than_the_prompts() -> None:
    once = share([[True]] * 30 + [[False]] * 20)
    again = share([[True] * 4] * 30 + [[False] * 4] * 20)
    assert again.margin == pytest.approx(once.margin)
    assert again.num == once.num == 50
    alike = share([[True, True, False, False]] * 50)
    assert alike.margin < once.margin


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    held = []
    for _ in range(400):
        chances = generator.beta(2, 1, 80)  # of each prompt; their mean is 2/3
        found = share([list(generator.random(4) < chance) for chance in chances])
        held.append(abs(found.value - 2 / 3) <= found.margin)
    assert 0.92 <= np.mean(held) <= 0.98


def test_a_mean_has_students_interval() -> None:
    found = mean([1.0, 2.0, 4.0])
    assert found.value == pytest.approx(7 / 3)
    assert found.margin == pytest.approx(t.ppf(0.975, 2) * np.std([1, 2, 4], ddof=1) / 3**0.5)
    assert mean([3.0]) == Score(3.0, None, 1)


def test_weighted_scores_add_their_variances() -> None:
    found = weighted([Score(1.0, 0.3, 5), Score(3.0, 0.4, 7)])
    assert (found.value, found.num) == (2.0, 12)
    assert found.margin == pytest.approx(0.25)
    assert weighted([Score(1.0, 0.3, 5), Score(3.0, None, 7)], [0.25, 0.75]) == Score(2.5, None, 12)


def test_in_words() -> None:
    assert Score(0.5, 0.031, 3).scaled(100).in_words(1) == "50.0 ± 3.1"
    assert Score(0.5, None, 3).scaled(10).in_words(2) == "5.00"
