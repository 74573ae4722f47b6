"""Differences over seeds, against numbers worked out by hand."""

import math

import pytest

from mos.ablation.paired import Paired, paired


def test_mean_interval_and_p_are_those_of_students_t():
    found = paired({0: 1.0, 1: 2.0, 2: 4.0, 9: 50.0}, {0: 0.5, 1: 1.0, 2: 2.5})
    assert found.num == 3
    assert found.mean == pytest.approx(1.0)
    assert found.half_width == pytest.approx(4.302653 * 0.5 / math.sqrt(3), rel=1e-6)
    t = 1.0 / (0.5 / math.sqrt(3))
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-6)  # two degrees of freedom


@pytest.mark.parametrize(
    ("mean", "p", "lower", "direction"),
    [
        (-0.1, 0.01, True, "agrees"),
        (0.1, 0.01, True, "disagrees"),
        (0.1, 0.01, False, "agrees"),
        (-0.1, 0.2, True, "cannot be told"),
        (0.1, math.nan, True, "cannot be told"),
    ],
)
def test_a_direction_is_told_where_p_is_small(mean: float, p: float, lower: bool, direction: str):
    assert Paired(mean, 0.1, p, 3).direction(lower) == direction


def test_seeds_that_all_say_the_same_leave_no_doubt():
    assert paired({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}) == Paired(0.0, 0.0, 1.0, 2)
    assert paired({0: 1.5, 1: 2.5}, {0: 1.0, 1: 2.0}) == Paired(0.5, 0.0, 0.0, 2)


def test_one_seed_is_no_comparison():
    with pytest.raises(ValueError, match="two seeds or more"):
        paired({0: 1.0, 1: 2.0}, {1: 2.0, 2: 3.0})
