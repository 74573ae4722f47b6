"""What every test may rely on: a known environment, the checkout, one local Ray for the whole run."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

# Before anything imports ray or transformers, in this process and in those it starts.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ["MKL_CBWR"] = "AUTO,STRICT"  # as in every process of a run, see pipelines/__init__.py
os.environ.pop("RAY_ADDRESS", None)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported, which transformers and torch.compile may do

CLONE = Path(__file__).resolve().parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CLONE), os.environ.get("PYTHONPATH")]))


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """No test is named by bytes: an archive made at collection holds the time, and two processes of `-n` disagree."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def clone() -> Path:
    """The checkout under test."""
    return CLONE


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A local Ray of four logical cores, shared by all tests of this process."""
    import ray

    from cluster.config import ClusterConfig
    from cluster.session import ray_session

    assert not ray.is_initialized()
    with ray_session(ClusterConfig(num_cpus=4, object_store_mb=200)):
        yield


@pytest.fixture
def small_run(tmp_path: Path) -> Callable:
    """`small_run("curate.x=1", ...)`: tests/small_run.toml with a root of its own and overrides."""
    from pipelines.run.config import load_run

    def load(*overrides: str):
        return load_run(CLONE / "tests/small_run.toml", (f"root={tmp_path / 'run'}", *overrides))

    return load
