"""Training stages as jobs: real Ray Train, two workers, one of them killed."""

import json
import os
import signal
import threading
import time
from argparse import Namespace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from mos.errors import UserError
from mos.training.metrics import latest_metrics, read_metrics
from pipelines.run_config import RunConfig
from pipelines.stage_job import make_job
from pipelines.steps import open_step, require_step
from pipelines.train_stage import prepare, train_stage
from tests.pipelines.trained_run import encoded_run, stage

ARGS = Namespace(force=False)
TWO_WORKERS = "cluster.train={num=2, cpus=1}"


def folder_of(name: str, config: RunConfig) -> Path:
    return config.folder("checkpoints", name, open_step(name, config).short)


def kill_a_worker_after(folder: Path, step: int, killed: list[int]) -> None:
    """SIGKILL one training worker of this process's own Ray once the stage has come so far."""
    while (latest := latest_metrics(folder)) is None or latest.step < step:
        time.sleep(0.02)
    workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]
    os.kill(workers[-1].pid, signal.SIGKILL)
    killed.append(latest.step)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_changes_nothing(local_ray, demo_run):
    config = encoded_run(demo_run, *stage("stage1", "steps=120", "checkpoint_every=20", "sample_every=60"), TWO_WORKERS)
    folder, killed = folder_of("stage1", config), []
    killer = threading.Thread(target=kill_a_worker_after, args=(folder, 50, killed), daemon=True)
    killer.start()
    train_stage("stage1", config, ARGS)
    killer.join()
    broken = load_file(folder / "export" / "model.safetensors")
    broken_metrics = [(line.step, line.loss) for line in read_metrics(folder)]
    assert 50 <= killed[0] < 120

    train_stage("stage1", config, Namespace(force=True))
    unbroken = load_file(folder / "export" / "model.safetensors")
    assert all(torch.equal(broken[name], unbroken[name]) for name in unbroken)
    assert broken_metrics == [(line.step, line.loss) for line in read_metrics(folder)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stage_starts_from_the_one_before_and_editing_from_the_last(local_ray, demo_run, capsys):
    config = encoded_run(
        demo_run,
        *stage("stage1", "sample_every=3", "num_sample_images=3", "ema_decay=0.0"),
        *stage(
            "edit",
            'tasks=["generate", "edit"]',
            "sources={a=1.0, c=2.0}",
            "optimizer={lr=1e-9, final_lr=0}",
            "ema_decay=0.0",
        ),
        without=("stage2", "stage3", "stage4"),
    )
    with pytest.raises(UserError, match="step 'stage1' is not finished"):
        train_stage("edit", config, ARGS)
    train_stage("stage1", config, ARGS)
    train_stage("edit", config, ARGS)
    first, edit = (require_step(name, config).outputs for name in ("stage1", "edit"))
    one, other = (load_file(Path(outputs["export"], "model.safetensors")) for outputs in (first, edit))
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=0)
    assert edit["steps"] == 6
    assert edit["num_params"] == sum(weight.numel() for weight in one.values())
    assert json.loads(Path(edit["export"], "config.json").read_text())["run"]["stage"] == "edit"
    assert [path.name for path in sorted(Path(first["folder"], "samples").iterdir())] == [
        "step-000000003.png",
        "step-000000006.png",
    ]
    capsys.readouterr()
    train_stage("edit", config, ARGS)
    assert "already finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.state_dim=16", "set model.state_dim = 12"),
        ("stage1.batch_size=42", "fewer than one batch"),
        ("cluster.train={num=3, cpus=1}", "not a multiple of the 3 training workers"),
        ('stage1.filter="sharpness > 9"', "of which 0 are encoded"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(demo_run, override, message):
    config = encoded_run(demo_run, *stage("stage1", "micro_batch_size=1"), override)
    job = make_job(open_step("stage1", config), config)
    with pytest.raises(UserError, match=message):
        prepare(job, config)
    assert not job.folder.exists()
