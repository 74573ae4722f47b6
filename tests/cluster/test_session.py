import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from cluster.config import ClusterConfig
from cluster.session import ray_session, refuse_old_ray, refuse_unsafe_environment
from mos.errors import UserError


def test_unsafe_switch_is_refused():
    name = "RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION"
    refuse_unsafe_environment({name: "0"})
    with pytest.raises(UserError, match=f"{name}=1 .* unset it"):
        refuse_unsafe_environment({name: "1"})


@pytest.mark.parametrize("version", ["2.55.1", "1.13.0"])
def test_old_ray_is_refused(version: str):
    with pytest.raises(UserError, match=rf"ray {version} is too old"):
        refuse_old_ray(version)


@pytest.mark.parametrize("version", ["2.56.0", "2.60.0", "3.0.0.dev0"])
def test_current_ray_is_accepted(version: str):
    refuse_old_ray(version)


def test_a_session_inside_a_session_changes_nothing(local_ray: None):
    with ray_session(ClusterConfig()):
        assert ray.is_initialized()
    assert ray.is_initialized()


def test_workers_import_the_project(local_ray: None, clone: Path):
    @ray.remote
    def where() -> list[str]:
        import cluster
        import mos
        import operators
        import pipelines

        return [module.__file__ for module in (mos, operators, cluster, pipelines)]

    assert all(Path(file).is_relative_to(clone) for file in ray.get(where.remote()))


SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
import ray
from cluster.config import ClusterConfig
from cluster.session import ray_session

@ray.remote
def on_worker():
    import mos.tables.lance
    return os.environ["HF_HUB_OFFLINE"], os.environ["TOKENIZERS_PARALLELISM"]

with ray_session(ClusterConfig(num_cpus=1, object_store_mb=100)):
    assert ray.get(on_worker.remote()) == ("1", "false")
    assert ray.cluster_resources()["CPU"] == 1
assert not ray.is_initialized()
assert "RAY_AUTH_MODE" not in os.environ
"""


@pytest.mark.slow
def test_a_plain_script_starts_and_stops_its_own_ray(tmp_path: Path, clone: Path):
    """From a foreign folder, without an installation, with Ray's own choice of authentication."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_MODE", "PYTHONPATH", "HF_HUB_OFFLINE")}
    environment["HOME"] = str(tmp_path)  # Ray writes its token there
    command = [sys.executable, "-c", SCRIPT, str(clone)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "auth" not in result.stderr.lower()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1: start it"),
        ("http://127.0.0.1:8265", "RAY_ADDRESS=http://127.0.0.1:8265 is no address a script can join"),
    ],
)
def test_an_address_without_a_cluster_is_a_user_error(address: str, sentence: str, clone: Path):
    code = (
        "from cluster.session import *\n"
        "try:\n    ray_session(ClusterConfig()).__enter__()\nexcept UserError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"RAY_ADDRESS": address}
    result = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith(sentence), result.stderr


SLOW_MACHINE = """
import sys
import ray
from cluster import session
from cluster.config import ClusterConfig

starts, init = 0, ray.init


def starved(**options):
    global starts
    starts += 1
    if starts <= int(sys.argv[1]):
        raise Exception("The current node timed out during startup. This could happen because ...")
    return init(**options)


ray.init = starved
with session.ray_session(ClusterConfig(num_cpus=1, object_store_mb=80)):
    print("cores", ray.cluster_resources()["CPU"], "starts", starts)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slow", "told"),
    [
        (1, ("cores 1.0 starts 2", "Ray did not come up within 30 s: trying again")),
        (
            3,
            (
                "",
                "Ray did not come up within 30 s, 3 times: this machine has too much other work, or too little memory",
            ),
        ),
    ],
)
def test_a_machine_with_other_work_gets_a_second_try(slow: int, told: tuple[str, str], clone: Path):
    environment = os.environ | {"PYTHONPATH": str(clone)}
    command = [sys.executable, "-c", SLOW_MACHINE, str(slow)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert ran.stdout.strip() == told[0]
    assert told[1] in ran.stderr
