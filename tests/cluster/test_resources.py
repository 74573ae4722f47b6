import os

import pytest

from cluster.resources import available_cores, share_cores


@pytest.mark.parametrize(
    ("cores", "samples", "expected"),
    [
        (1, 32, (1, 1)),
        (2, 32, (2, 1)),
        (3, 32, (1, 3)),
        (4, 32, (4, 1)),
        (8, 32, (4, 2)),
        (16, 32, (4, 4)),
        (64, 32, (4, 16)),
        (16, 30, (2, 8)),
        (16, 7, (1, 16)),
        (12, 64, (4, 3)),
        (16, 0, (1, 16)),
    ],
)
def test_a_gang_shares_all_cores_and_each_batch(cores, samples, expected):
    shared = share_cores({"num": "auto", "cpus": "auto"}, cores, samples)
    assert (shared["num"], shared["cpus"]) == expected
    assert shared["num"] * shared["cpus"] <= cores
    assert samples % shared["num"] == 0


def test_workers_that_share_nothing_take_a_core_each():
    assert share_cores({"num": "auto"}, 6, None) == {"num": 6, "cpus": 1}


def test_what_is_named_stays():
    assert share_cores({"num": 2, "cpus": "auto", "labels": {"a": "b"}}, 8, 32) == {
        "num": 2,
        "cpus": 4,
        "labels": {"a": "b"},
    }
    assert share_cores({"num": "auto", "cpus": 2}, 8, 32)["num"] == 4


def test_cores_that_may_not_be_used_do_not_count():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
