"""What fits a cluster is known before anybody waits for it."""

import threading
import time

import pytest
import ray

from cluster.config import ClusterConfig
from cluster.room import may_grow, num_fitting, refuse_too_many, told_while_waiting
from cluster.session import ray_session
from mos.errors import UserError


def node(cpus: float, gpus: float, alive: bool = True, **labels: str) -> dict:
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}, "Labels": labels}


def test_nodes_that_hold_workers_are_counted_by_what_is_scarce():
    nodes = [node(16, 1, group="encode"), node(9, 8, group="train"), node(64, 8, alive=False), node(0, 0)]
    four = {"num_cpus": 4, "num_gpus": 1}
    assert num_fitting(nodes, four) == 1 + 2
    assert num_fitting(nodes, {"num_cpus": 4}) == 4 + 2
    for selector, room in (("train", 2), ("!train", 1), ("in(train, encode)", 3), ("!in(train,encode)", 0)):
        assert num_fitting(nodes, four | {"label_selector": {"group": selector}}) == room


def test_every_label_of_a_selector_counts_and_a_node_without_one_is_any_other():
    nodes = [node(1, 0), node(2, 0, zone="a"), node(4, 0, zone="a", market="spot"), node(8, 0, zone="b", market="spot")]
    for selector, room in (
        ({"zone": "!a"}, 1 + 8),
        ({"zone": "in(a)"}, 2 + 4),
        ({"zone": "!in(a, b)"}, 1),
        ({"zone": "a", "market": "spot"}, 4),
        ({"zone": "a", "market": "!spot"}, 2),
        ({"zone": "c"}, 0),
    ):
        assert num_fitting(nodes, {"num_cpus": 1, "label_selector": selector}) == room


@pytest.mark.parametrize(("has", "each", "room"), [(0.7, 0.1, 7), (1, 0.3, 3), (8, 0.5, 16), (0.9, 1, 0)])
def test_shares_of_a_device_add_up_on_one_node_alone(has: float, each: float, room: int):
    nodes = [node(64, has), {"Alive": True, "Resources": {"CPU": 64}, "Labels": {}}]
    assert num_fitting(nodes, {"num_cpus": 1, "num_gpus": each}) == room
    assert num_fitting(nodes, {"num_gpus": each}) == room


def test_a_local_ray_that_is_too_small_is_told_with_its_size_and_the_remedy(local_ray):
    refuse_too_many("cluster.train.num", 4, {"num_cpus": 1})
    with pytest.raises(UserError) as refused:
        refuse_too_many("cluster.train.num", 3, {"num_cpus": 1.5, "num_gpus": 0.5, "label_selector": {"zone": "a"}})
    assert str(refused.value).startswith(
        "3 workers of 1.5 CPU and 0.5 GPU each (cluster.train.num) do not fit the cluster on nodes with {'zone': 'a'}, "
        "which has room for 0 (4 CPUs and "
    )
    assert "does not grow: lower cluster.train.num or what each of them asks for" in str(refused.value)
    with pytest.raises(UserError, match=r"^5 workers of 1 CPU each \(many\) do not fit the cluster,.* has room for 4 "):
        refuse_too_many("many", 5, {"num_cpus": 1})


def test_a_ray_of_ones_own_never_grows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not may_grow()


@pytest.mark.slow
def test_a_head_without_an_autoscaler_does_not_grow(local_ray, monkeypatch):
    """As in a job: the address is set, and only the cluster's own report tells."""
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    with ray_session(ClusterConfig()), pytest.raises(UserError, match="does not grow"):
        refuse_too_many("cluster.generate.num", 9, {"num_cpus": 1})


@ray.remote(num_cpus=3)
class Busy:
    def ready(self) -> bool:
        return True


def test_what_workers_wait_for_is_said_until_they_begin(local_ray, capsys):
    busy = Busy.remote()
    ray.get(busy.ready.remote())
    begun = threading.Event()
    one = {"num_cpus": 2}
    with told_while_waiting("cluster.train.num", 2, one, begun.is_set, first_s=0.1):
        time.sleep(1.0)
        begun.set()
        time.sleep(0.3)
    said = capsys.readouterr().out
    assert said.startswith("cluster.train.num: waits for 2 workers of 2 CPU each; free are 1 of 4 CPUs and 0 of 0 GPUs")
    assert said.endswith("of the cluster: others use it, or they are starting\n")
    assert said.count("\n") == 1
    labelled = {"num_cpus": 2, "label_selector": {"group": "train"}}
    with told_while_waiting("cluster.train.num", 2, labelled, lambda: False, first_s=0.1):
        time.sleep(1.0)
    assert "on nodes with {'group': 'train'}; free" in (said := capsys.readouterr().out)
    assert "it has too few nodes for them and may grow" in said
    ray.kill(busy)


def test_nothing_is_said_of_workers_that_begin_at_once(local_ray, capsys):
    with told_while_waiting("many", 1, {"num_cpus": 1}, lambda: True, first_s=0.05):
        time.sleep(0.4)
    assert capsys.readouterr().out == ""
