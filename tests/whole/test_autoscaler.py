"""Every config that ships, put to Ray's own autoscaler with the node groups of both clusters that ship."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingReply, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import GangResourceRequest, ResourceRequest
from ray.core.generated.common_pb2 import LabelSelectorOperator

from cluster.resources import actor_options
from mos.checkout import CLONE
from pipelines.run.config import RunConfig, load_run

CONFIGS = sorted((CLONE / "pipelines/configs").glob("*.toml"))
LARGE = ("mos_s", "mos_l")


def cluster(name: str) -> AutoscalingConfig:
    """The node groups of a YAML as the autoscaler reads them."""
    read = yaml.safe_load((CLONE / "cluster" / f"{name}.yaml").read_text(encoding="utf-8"))
    if name == "vm":
        return AutoscalingConfig(prepare_config(read), skip_content_hash=True)
    read["metadata"]["namespace"] = "default"
    return AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(read), skip_content_hash=True)


def request(options: Mapping[str, Any]) -> ResourceRequest:
    """What one actor with such options asks for; the labels of the configs that ship name one group each."""
    units = {"num_cpus": "CPU", "num_gpus": "GPU"}
    resources = {unit: float(options[name]) for name, unit in units.items() if options.get(name)}
    selector = options.get("label_selector", {})
    labels = [(key, LabelSelectorOperator.LABEL_OPERATOR_IN, [value]) for key, value in selector.items()]
    return ResourceRequestUtil.make(resources, label_selectors=[labels] if labels else None)


def schedule(
    config: AutoscalingConfig, *, gang: Sequence[ResourceRequest] = (), actors: Sequence[ResourceRequest] = ()
) -> SchedulingReply:
    return ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(list(actors)),
            gang_resource_requests=[GangResourceRequest(requests=list(gang))] if gang else [],
        )
    )


def launched(reply: SchedulingReply) -> dict[str, int]:
    """Nodes by group, where all that was asked for has its place."""
    assert not reply.infeasible_resource_requests
    assert not reply.infeasible_gang_resource_requests
    workers = (launch for launch in reply.to_launch if "head" not in launch.instance_type)
    return {launch.instance_type: launch.count for launch in workers}


def groups(run: RunConfig, config: AutoscalingConfig) -> dict[str, dict[str, int]]:
    """Where each kind of worker lands on an empty cluster."""
    train, generate, actors = run.cluster.train, run.cluster.generate, run.encode.actors
    scorers = [scorer for scorer in (run.curate.aesthetic, run.curate.alignment) if scorer is not None]
    kinds = {
        "train": {"gang": [request(actor_options(train))] * train.num},
        "encode": {"actors": [request(actor_options(actors))] * actors.max},
        "generate": {"actors": [request(actor_options(generate))] * generate.num},
    }
    for scorer in scorers:
        kinds[f"score with {type(scorer).__name__}"] = {
            "actors": [request(actor_options(scorer.actors))] * scorer.actors.num
        }
    return {kind: launched(schedule(config, **demand)) for kind, demand in kinds.items()}


@pytest.mark.parametrize("name", ["kuberay", "vm"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_worker_of_a_config_finds_its_nodes(path: Path, name: str):
    for kind, nodes in groups(load_run(path), cluster(name)).items():
        assert nodes, f"{kind} asks for nothing"
        if path.stem in LARGE:
            assert set(nodes) == {"train" if kind == "train" else "encode"}, f"{kind} lands on {nodes}"
        else:
            assert "train" not in nodes, f"{kind} of a small run lands on {nodes}"


@pytest.mark.parametrize("name", ["kuberay", "vm"])
@pytest.mark.parametrize("stem", LARGE)
def test_training_and_encoding_do_not_share_nodes(stem: str, name: str):
    """Producers of a stream beside the gang: nodes of both groups, the gang whole on its own."""
    run = load_run(CLONE / f"pipelines/configs/{stem}.toml")
    train, actors = run.cluster.train, run.encode.actors
    gang = [request(actor_options(train))] * train.num
    nodes = launched(schedule(cluster(name), gang=gang, actors=[request(actor_options(actors))] * 4))
    assert nodes == {"train": train.num // 8, "encode": 4}


@pytest.mark.parametrize("name", ["kuberay", "vm"])
def test_the_scheduler_refuses_what_does_not_fit(name: str):
    labels = {"label_selector": {"mos/group": "train"}}
    reply = schedule(cluster(name), gang=[request({"num_cpus": 8, "num_gpus": 1, **labels})] * 100_000)
    assert reply.infeasible_gang_resource_requests
    reply = schedule(cluster(name), actors=[request({"num_cpus": 1, "label_selector": {"mos/group": "none"}})])
    assert reply.infeasible_resource_requests
