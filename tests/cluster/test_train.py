"""Training gangs under a real Ray Train: what is tried again and what is not, and gangs that never fit."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
import torch
import torch.distributed as dist

from cluster.train import run_workers
from mos.checkout import CLONE
from mos.errors import UserError
from mos.workers import GangConfig

TWO = GangConfig(num=2, cpus=1)


def note(folder: Path) -> int:
    """Count this attempt of this rank; returns how many there were."""
    rank = dist.get_rank()
    (folder / f"{rank}-{time.time_ns()}").touch()
    return len(list(folder.glob(f"{rank}-*")))


def mistaken(folder: Path, device: torch.device) -> None:
    """Rank 1 finds a user's mistake while rank 0 waits for it."""
    note(folder)
    if dist.get_rank() == 1:
        raise UserError("table x lacks a file: encode again")
    dist.barrier()


def fails_once(folder: Path, device: torch.device) -> None:
    attempt = note(folder)
    dist.barrier()
    time.sleep(3)  # the gang has started: what dies before that is an error of Ray's own
    if attempt == 1:
        os._exit(1)


def fails_always(folder: Path, device: torch.device) -> None:
    note(folder)
    raise RuntimeError("no luck")


def run(worker, tmp_path: Path, max_failures: int, workers: GangConfig = TWO) -> Path:
    attempts = tmp_path / "attempts"
    attempts.mkdir()
    run_workers(worker, attempts, workers, folder=tmp_path / "ray", max_failures=max_failures)
    return attempts


@pytest.mark.slow
def test_a_users_mistake_is_not_tried_again(local_ray, tmp_path):
    with pytest.raises(UserError, match=r"^table x lacks a file: encode again$"):
        run(mistaken, tmp_path, max_failures=3)
    assert len(list((tmp_path / "attempts").iterdir())) <= 2  # rank 0 may begin when rank 1 is done


@pytest.mark.slow
def test_a_lost_gang_is_started_again_on_the_cores_that_it_had(local_ray, tmp_path):
    """Of four cores three: a second gang has room only where the first one's are free again."""
    attempts = run(fails_once, tmp_path, max_failures=3, workers=GangConfig(num=3, cpus=1))
    assert len(list(attempts.iterdir())) >= 4


@pytest.mark.slow
def test_a_gang_grows_when_a_node_comes(tmp_path):
    script = CLONE / "tests" / "cluster" / "growing_gang.py"
    environment = {**os.environ, "PYTHONPATH": str(CLONE)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=150)
    assert "sizes 1 2" in done.stdout, done.stderr[-2000:]


@pytest.mark.slow
def test_a_gang_that_always_fails_is_given_up(local_ray, tmp_path):
    with pytest.raises(ray.train.TrainingFailedError, match="no luck"):
        run(fails_always, tmp_path, max_failures=1)
    assert 3 <= len(list((tmp_path / "attempts").iterdir())) <= 4


@pytest.mark.parametrize(
    "workers",
    [GangConfig(num=5, cpus=1), GangConfig(num=1, cpus=5), GangConfig(gpus=1), GangConfig(labels={"a": "b"})],
)
def test_a_gang_that_never_fits_ends_at_once(local_ray, tmp_path, workers):
    with pytest.raises(UserError, match=r"\d workers of .* \(cluster.train.num\) do not fit .* does not grow: lower"):
        run_workers(mistaken, tmp_path, workers, folder=tmp_path / "ray", max_failures=3)
