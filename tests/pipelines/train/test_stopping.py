"""Ctrl-C and SIGTERM end a stage in order: nothing that was done is lost, no process stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from mos.model.exported import WEIGHTS
from mos.training.checkpoint import newest_readable
from mos.training.metrics import latest_metrics
from mos.training.stop import StopRequest
from pipelines.run.steps import Run
from pipelines.train.stopping import stopping_in_order
from tests.pipelines.trained_run import MODEL, encoded_run, stage, undisturbed

TINY = (*MODEL, *stage("stage1", "steps=200", "checkpoint_every=1000", "log_every=1"), "cluster.train={num=1, cpus=1}")


def start(clone: Path, root: str, *overrides: str) -> subprocess.Popen:
    config, given = clone / "tests" / "small_run.toml", (*TINY, "cluster.num_cpus=2", *overrides)
    return subprocess.Popen(
        [sys.executable, clone / "pipelines" / "stage1.py", config, f"root={root}", *given],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(step: int, folder: Path, run: subprocess.Popen) -> None:
    while (latest := latest_metrics(folder)) is None or latest.step < step:
        assert run.poll() is None, run.communicate()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stopped_stage_goes_on_where_it_was_and_ends_as_if_unbroken(clone: Path, small_run, tmp_path: Path):
    config = encoded_run(small_run, *TINY)
    folder = config.folder("checkpoints", "stage1", Run(config).step("stage1").short)
    for send, number, after in ((os.killpg, signal.SIGINT, 20), (os.kill, signal.SIGTERM, 100)):
        run = start(clone, config.root)
        wait_for(after, folder, run)
        processes = psutil.Process(run.pid).children(recursive=True)
        send(run.pid, number)  # a terminal sends Ctrl-C to the whole group, a job server SIGTERM to the process
        output, errors = run.communicate(timeout=120)
        reached = newest_readable(folder).state.step
        assert (run.returncode, errors.splitlines()[-1]) == (130, "interrupted")
        assert f"stage1: stopped at step {reached} of 200" in output
        assert reached >= latest_metrics(folder).step >= after
        assert psutil.wait_procs(processes, timeout=15)[1] == []
    again = start(clone, config.root)
    output, _ = again.communicate(timeout=200)
    assert again.returncode == 0
    assert f"from its own step {reached}; 200 steps" in output
    broken = load_file(folder / "export" / WEIGHTS)
    unbroken, _ = undisturbed(config, "stage1", tmp_path / "undisturbed")
    assert all(torch.equal(broken[name], unbroken[name]) for name in unbroken)


def ask_then_insist(request: StopRequest) -> None:
    request.enter()
    signal.raise_signal(signal.SIGTERM)
    assert request.is_asked()
    signal.raise_signal(signal.SIGINT)


def test_the_first_signal_asks_and_the_second_one_interrupts(tmp_path: Path, capsys):
    with pytest.raises(KeyboardInterrupt), stopping_in_order("stage1", tmp_path) as request:
        ask_then_insist(request)
    assert "ends after this step" in capsys.readouterr().out
    assert not StopRequest(tmp_path).is_asked()


def test_a_signal_before_training_interrupts_at_once(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), stopping_in_order("stage1", tmp_path):
        signal.raise_signal(signal.SIGINT)
