"""The pool of actors: results come, dead actors are replaced, it grows and shrinks within its bounds."""

import os
import time

import pytest
from ray.exceptions import RayActorError

from cluster.actor_pool import MOST_DEATHS, ActorPool
from mos.errors import UserError


class Worker:
    """Doubles numbers; dies of 13, once, and of 16, always; calls 14 a mistake, and cannot do 17 at first."""

    def __init__(self, marker: str) -> None:
        self._marker = marker

    def __call__(self, number: int) -> int:
        if number == 13 and not os.path.exists(self._marker):
            open(self._marker, "w").close()
            os._exit(1)
        if number == 16:
            os._exit(1)
        if number == 17 and not os.path.exists(self._marker):
            open(self._marker, "w").close()
            raise OSError("the disk is away")
        if number == 14:
            raise UserError("14 is no number: use 15")
        return 2 * number


def finish(pool: ActorPool, numbers: list[int]) -> list[int]:
    """All results; each number goes to whichever actor is idle."""
    waiting, results = list(numbers), []
    deadline = time.monotonic() + 60
    while len(results) < len(numbers):
        assert time.monotonic() < deadline
        while waiting and pool.num_idle > 0:
            pool.submit(waiting.pop(0))
        results += pool.collect(0.1)
    return sorted(results)


@pytest.mark.slow
def test_a_pool_outlives_its_actors_and_keeps_its_bounds(local_ray, tmp_path):
    pool = ActorPool(Worker, (str(tmp_path / "died"),), {"num_cpus": 0.5}, (1, 2))
    try:
        assert finish(pool, [1, 2, 3]) == [2, 4, 6]
        assert pool.grow()
        assert not pool.grow()
        assert len(pool) == 2
        assert finish(pool, [13, 5, 6]) == [10, 12, 26]
        assert pool.num_died == 1
        while pool.num_starting:
            pool.collect(0.1)
        assert not pool.shrink(idle_s=60)
        assert pool.shrink(idle_s=0)
        assert not pool.shrink(idle_s=0)
        assert 0 < pool.time.idle_share < 1
        pool.submit(14)
        with pytest.raises(UserError, match="use 15"):
            finish(pool, [1])
    finally:
        pool.close()
    assert len(pool) == 0


@pytest.mark.slow
def test_a_task_that_always_kills_its_actor_ends_the_pool(local_ray, tmp_path, capsys):
    pool = ActorPool(Worker, (str(tmp_path / "died"),), {"num_cpus": 0.5}, (1, 1))
    try:
        with pytest.raises(RayActorError):
            finish(pool, [16])
        assert pool.num_died == MOST_DEATHS
        assert capsys.readouterr().out.count("an actor was lost while it was at work") == MOST_DEATHS
    finally:
        pool.close()


@pytest.mark.slow
def test_a_task_that_raised_is_done_again_by_a_caller_who_goes_on(local_ray, tmp_path):
    pool = ActorPool(Worker, (str(tmp_path / "failed"),), {"num_cpus": 0.5}, (1, 1))
    try:
        with pytest.raises(OSError, match="the disk is away"):
            finish(pool, [17])
        results = []
        while not results:
            results = pool.collect(0.1)
        assert results == [34]
    finally:
        pool.close()
