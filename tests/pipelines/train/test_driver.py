"""Training stages as jobs: real Ray Train, two workers, one of them killed."""

import json
import os
import signal
import threading
import time
from argparse import Namespace
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import torch
from safetensors.torch import load_file

from cluster.train import run_workers
from mos.errors import UserError
from mos.model.exported import INDEX, WEIGHTS
from mos.training.metrics import latest_metrics, read_metrics
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.train.driver import prepare, train_stage
from pipelines.train.job import StageJob, make_job
from pipelines.train.worker import train_worker
from tests.pipelines.trained_run import encoded_run, stage, undisturbed

ARGS = Namespace(force=False)
TWO_WORKERS = "cluster.train={num=2, cpus=1}"


def folder_of(name: str, config: RunConfig) -> Path:
    return config.folder("checkpoints", name, Run(config).step(name).short)


def kill_a_worker_after(folder: Path, step: int, killed: list[int]) -> None:
    """SIGKILL one training worker of this process's own Ray once the stage has come so far."""
    while (latest := latest_metrics(folder)) is None or latest.step < step:
        time.sleep(0.02)
    workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]
    os.kill(workers[-1].pid, signal.SIGKILL)
    killed.append(latest.step)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_changes_nothing(local_ray, small_run, tmp_path):
    config = encoded_run(
        small_run, *stage("stage1", "steps=120", "checkpoint_every=20", "sample_every=60"), TWO_WORKERS
    )
    folder, killed = folder_of("stage1", config), []
    killer = threading.Thread(target=kill_a_worker_after, args=(folder, 50, killed), daemon=True)
    killer.start()
    train_stage("stage1", Run(config), ARGS)
    killer.join()
    broken = load_file(folder / "export" / WEIGHTS)
    broken_metrics = [(line.step, line.loss) for line in read_metrics(folder)]
    assert 50 <= killed[0] < 120
    unbroken, unbroken_metrics = undisturbed(config, "stage1", tmp_path / "undisturbed")
    assert all(torch.equal(broken[name], unbroken[name]) for name in unbroken)
    assert broken_metrics == unbroken_metrics


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stage_starts_from_the_one_before_and_editing_from_the_last(local_ray, small_run, capsys):
    config = encoded_run(
        small_run,
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
        train_stage("edit", Run(config), ARGS)
    train_stage("stage1", Run(config), ARGS)
    train_stage("edit", Run(config), ARGS)
    first, edit = (Run(config).require(name).outputs for name in ("stage1", "edit"))
    one, other = (load_file(Path(outputs["export"], WEIGHTS)) for outputs in (first, edit))
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=0)
    assert edit["steps"] == 6
    assert edit["num_params"] == sum(weight.numel() for weight in one.values())
    assert json.loads(Path(edit["export"], INDEX).read_text())["run"]["stage"] == "edit"
    assert [path.name for path in sorted(Path(first["folder"], "samples").iterdir())] == [
        "step-000000003.png",
        "step-000000006.png",
    ]
    capsys.readouterr()
    train_stage("edit", Run(config), ARGS)
    assert "already finished" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_longer_stage_goes_on_in_another_way(local_ray, small_run, capsys):
    config = encoded_run(small_run, *stage("stage1"), TWO_WORKERS, without=("stage2", "stage3", "stage4", "edit"))
    train_stage("stage1", Run(config), ARGS)
    first = Run(config).require("stage1")
    ways = ("steps=9", "micro_batch_size=1", "activation_checkpointing=true", "engine.blocks_per_unit=2", "log_every=1",
            "engine.reshard_after_forward=false", "max_nonfinite_steps=3", "checkpoint_every=2")  # fmt: skip
    longer = config.changed([f"stage1.{way}" for way in ways])
    with pytest.raises(UserError, match="step 'stage1' is finished to update 6 of 9"):
        Run(longer).require("stage1")
    capsys.readouterr()
    train_stage("stage1", Run(longer), ARGS)
    said = capsys.readouterr().out
    assert "from its own step 6; 9 steps" in said
    assert "its learning rate decays until update 6, where the stage was to end when it began" in said
    second = Run(longer).require("stage1")
    assert (first.outputs["steps"], second.outputs["steps"]) == (6, 9)
    assert first.outputs["folder"] == second.outputs["folder"]
    assert first.outputs["identity"] != second.outputs["identity"]
    assert second.seconds > first.seconds
    rates = {line.step: line.lr for line in read_metrics(Path(second.outputs["folder"]))}
    assert [rates[step] for step in (6, 7, 8, 9)] == pytest.approx([1e-3] * 4)
    train_stage("stage1", Run(config), ARGS)
    assert "already finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.state_dim=16", "set model.state_dim = 12"),
        ("stage1.batch_size=42", "fewer than one batch"),
        ("cluster.train={num=3, cpus=1}", "makes 3 micro batches of the largest share of batch_size = 8"),
        ('stage1.filter="sharpness > 9"', "of which 0 are encoded"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(small_run, override, message):
    config = encoded_run(small_run, *stage("stage1", "micro_batch_size=1"), override)
    job = make_job(Run(config).step("stage1"), Run(config))
    with pytest.raises(UserError, match=message):
        prepare(job, config)
    assert not job.folder.exists()


def forget(config: RunConfig) -> None:
    """Remove the record of stage1, as if it had been interrupted after its last checkpoint."""
    (record,) = config.folder("steps", "stage1").glob("*.json")
    record.unlink()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(local_ray, small_run, capsys):
    config = encoded_run(small_run, *stage("stage1"), TWO_WORKERS)
    train_stage("stage1", Run(config), ARGS)
    folder = folder_of("stage1", config)
    whole = load_file(folder / "export" / WEIGHTS)
    forget(config)
    marker = folder / "step-000000006" / "COMPLETE.json"
    marker.write_text("null")
    capsys.readouterr()
    train_stage("stage1", Run(config), ARGS)
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "is not usable" in line]
    assert line.startswith(f"stage1: checkpoint {marker.parent} is not usable: COMPLETE.json")
    assert line.endswith(f"training goes on from {folder / 'step-000000003'}")
    again = load_file(folder / "export" / WEIGHTS)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def counted_worker(job: StageJob, device: torch.device) -> None:
    (job.folder / f"began-{uuid4()}").touch()
    train_worker(job, device)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["states", "latents"])
def test_a_lost_file_of_a_table_ends_a_stage_at_once(local_ray, small_run, kind):
    config = encoded_run(small_run, *stage("stage1"))
    job = make_job(Run(config).step("stage1"), Run(config))
    table = getattr(job.tables, kind)
    (pack,) = Path(table.uri, "data").rglob("*.blob")
    kept = pack.read_bytes()
    pack.unlink()
    with pytest.raises(UserError, match=rf"table {table.uri} is damaged, a file is missing .*{pack.name}: .*--force"):
        prepare(job, config)
    pack.write_bytes(kept)
    prepare(job, config)
    pack.unlink()
    workers = config.cluster.train
    with pytest.raises(UserError, match=rf"table {table.uri} is damaged, .*{pack.name} is missing: .*--force"):
        run_workers(counted_worker, job, workers, folder=job.folder / "ray", max_failures=3)
    assert len(list(job.folder.glob("began-*"))) == workers.num  # nobody tries again
    assert not list(job.folder.glob("step-*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sample_without_a_number_is_named_while_the_others_train(local_ray, small_run, capsys):
    config = encoded_run(small_run, *stage("stage1", "steps=12", "batch_size=8"), TWO_WORKERS)
    job = make_job(Run(config).step("stage1"), Run(config))
    (pack,) = Path(job.tables.latents.uri, "data").rglob("*.blob")
    content = bytearray(pack.read_bytes())
    content[:2] = b"\x00\x7e"  # NaN in float16, in the first picture
    pack.write_bytes(content)
    train_stage("stage1", Run(config), ARGS)
    out = capsys.readouterr().out
    named = [line for line in out.splitlines() if "is left out" in line]
    assert named
    assert all("(source a, row 0 of fragment 0" in line and "its latent, row 0 of" in line for line in named)
    lines = read_metrics(job.folder)
    assert sum(line.left_out for line in lines) >= 1
    assert lines[-1].nonfinite_steps == 0


def test_a_gang_that_never_fits_is_refused(local_ray, small_run):
    config = encoded_run(small_run, *stage("stage1"), "cluster.train={num=8, cpus=1}", "stage1.micro_batch_size=1")
    with pytest.raises(UserError, match=r"8 workers of 1 CPU each \(cluster.train.num\) do not fit the cluster"):
        train_stage("stage1", Run(config), ARGS)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("cluster.train={num=1, max_num=2, labels={a='b'}}", "labels"),
        ("stage1.engine={mesh={shard=1}}", "mesh"),
        ("stage1.states={type='stream'}", "stream"),
    ],
)
def test_a_gang_of_several_sizes_is_refused_where_one_is_wanted(small_run, override, reason):
    config = encoded_run(small_run, *stage("stage1"), "cluster.train={num=1, max_num=2}", override)
    job = make_job(Run(config).step("stage1"), Run(config))
    with pytest.raises(UserError, match=f"cluster.train.max_num = 2 does not go with .*{reason}"):
        prepare(job, config)
