import pytest
from pydantic import ValidationError

from mos.workers import GangConfig, PoolBounds, PoolConfig, WorkerConfig


def test_models_live_where_the_worker_has_a_device():
    assert [WorkerConfig(gpus=gpus).device for gpus in (0, 0.5, 1)] == ["cpu", "cuda", "cuda"]


def test_a_worker_has_a_thread_a_core_and_never_none():
    assert [WorkerConfig(cpus=cpus).threads for cpus in (0.25, 1, 2.5, 4)] == [1, 1, 2, 4]


def test_a_pool_grows_from_its_fewest_to_its_most():
    assert PoolConfig(min=2, max=2).max == 2
    with pytest.raises(ValidationError, match="max = 2 is less than min = 3"):
        PoolBounds(min=3, max=2)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        PoolConfig(min=0)


@pytest.mark.parametrize("old", ["min_actors", "max_actors", "threads_per_actor", "gpus_per_actor"])
def test_names_of_before_are_answered_with_those_of_today(old: str):
    with pytest.raises(ValidationError, match=rf"it is called {PoolConfig.renamed[old]} today"):
        PoolConfig(**{old: 1})
    assert PoolConfig.renamed[old] in PoolConfig.model_fields


def test_a_gang_has_one_size_or_a_range_of_them():
    assert list(GangConfig(num=3).sizes) == [3]
    assert list(GangConfig(num=2, max_num=4).sizes) == [2, 3, 4]
    with pytest.raises(ValueError, match="max_num = 1 is less than num = 2"):
        GangConfig(num=2, max_num=1)
