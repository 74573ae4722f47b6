from pathlib import Path

import pytest
import ray
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture
def kuberay(clone: Path) -> dict:
    return read(clone / "cluster/kuberay.yaml")


def test_vm_launcher_accepts_the_config(clone: Path):
    config = read(clone / "cluster/vm.yaml")
    validate_config(prepare_config(config))
    workers = [group for name, group in config["available_node_types"].items() if name != config["head_node_type"]]
    assert sum(group["max_workers"] for group in workers) <= config["max_workers"]


def test_vm_launcher_refuses_a_misspelt_key(clone: Path):
    config = read(clone / "cluster/vm.yaml")
    config["max_worker"] = config.pop("max_workers")
    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config(config))


def test_kuberay_groups_are_complete(kuberay: dict):
    spec = kuberay["spec"]
    assert (kuberay["apiVersion"], kuberay["kind"]) == ("ray.io/v1", "RayCluster")
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        assert {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= group.keys()
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert not any("labels" in key for key in group["rayStartParams"])


def test_kuberay_runs_the_pinned_ray(kuberay: dict, clone: Path):
    pinned = next(line for line in (clone / "constraints.txt").read_text().splitlines() if line.startswith("ray=="))
    version = kuberay["spec"]["rayVersion"]
    assert pinned == f"ray=={version}"
    assert version == ray.__version__
    groups = [kuberay["spec"]["headGroupSpec"], *kuberay["spec"]["workerGroupSpecs"]]
    containers = [container for group in groups for container in group["template"]["spec"]["containers"]]
    assert all(container["image"].endswith(f":{version}") for container in containers)


def test_every_container_mounts_the_shared_root_and_bounds_itself(kuberay: dict):
    for group in [kuberay["spec"]["headGroupSpec"], *kuberay["spec"]["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_clusters_demand_a_token(kuberay: dict, clone: Path):
    assert kuberay["spec"]["authOptions"]["mode"] == "token"
    vm = read(clone / "cluster/vm.yaml")
    starts = [line for line in vm["head_start_ray_commands"] + vm["worker_start_ray_commands"] if "ray start" in line]
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
