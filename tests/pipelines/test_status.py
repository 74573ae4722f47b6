"""What a run's folder tells about its steps, while they work and after."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from mos.errors import UserError
from mos.training.appended import AppendedFile, line_of
from mos.training.goodput import FILE, Span
from mos.training.metrics import StepMetrics
from pipelines import status
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.status import Status, duration, running_jobs, status_of
from pipelines.train.job import stage_folder
from pipelines.train.lock import stage_lock
from tests.pipelines.trained_run import encoded_run, stage

BEGAN = 1_000_000.0


def folder_of(config: RunConfig) -> Path:
    return stage_folder(Run(config).step("stage1"), config)


def trained(folder: Path, updates: int) -> None:
    """What a stage leaves that does two updates a second."""
    folder.mkdir(parents=True)
    times, metrics = AppendedFile(folder / FILE), AppendedFile(folder / "metrics.jsonl")
    times.add(line_of(Span(BEGAN, BEGAN + 4, 0, 0, 4.0, 0.0, 0.0, 0.0)))
    for step in range(2, updates + 1, 2):
        times.add(line_of(Span(BEGAN, BEGAN + 4 + step / 2, step, 2, 1.0, 0.0, 0.0, 0.0)))
        metrics.add(line_of(StepMetrics(step, 0, 0.5, 1e-3, 1.0, 16.0, 0.0, 0)))


@pytest.fixture
def config(small_run, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return encoded_run(small_run, *stage("stage1", "steps=10"))


def test_every_step_says_where_it_stands(config: RunConfig, capsys) -> None:
    names = ("shapes", "encode", "stage1", "stage2", "sample")
    found = {name: status_of(Run(config), name, {}) for name in names}
    assert [one.state for one in found.values()] == ["finished", "finished", "can start", "waits", "waits"]
    assert found["stage1"].about == "python pipelines/stage1.py <config>"
    assert found["stage2"].about == "for stage1"
    assert "contexts" in found["encode"].about
    assert capsys.readouterr().out == ""


def test_a_stage_that_trains_tells_its_speed_and_what_is_left(config: RunConfig) -> None:
    folder = folder_of(config)
    trained(folder, 6)
    with stage_lock(folder):
        found = status_of(Run(config), "stage1", {})
    assert (found.state, found.left_s, found.seconds) == ("trains", 2.0, 7.0)
    assert found.about.startswith("6 of 10 updates; loss 0.5000; 2 updates/s; 43% goodput, 0.00 core hours at ")


def test_a_stage_that_was_stopped_says_where_it_goes_on(config: RunConfig) -> None:
    trained(folder_of(config), 6)
    found = status_of(Run(config), "stage1", {})
    assert found.state == "stopped"
    assert found.about.startswith("6 of 10 updates, goes on from 0; loss 0.5000")


def test_ranks_that_are_silent_are_named(config: RunConfig) -> None:
    folder = folder_of(config)
    trained(folder, 2)
    place = {"rank": 3, "step": 2, "doing": "updating", "since": 1.0, "heard": 1.0, "host": "node-7", "pid": 5}
    (folder / "ranks").mkdir()
    (folder / "ranks" / "rank-00003.json").write_text(json.dumps(place) + "\n", encoding="utf-8")
    with stage_lock(folder):
        assert "not heard of: rank 3 (node-7, process 5)" in status_of(Run(config), "stage1", {}).about
    assert "not heard of" not in status_of(Run(config), "stage1", {}).about


def test_jobs_of_a_cluster_are_told_by_their_step(config: RunConfig) -> None:
    config.folder("steps", "encode").rename(config.folder("steps", "gone"))
    step = Run(config).step("encode")
    found = status_of(Run(config), "encode", {f"encode-{step.short}": "pending"})
    assert found == Status("encode", "runs", f"job encode-{step.short} is pending")
    assert status_of(Run(config), "encode", {}).state == "can start"


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"the cluster at http://127\.0\.0\.1:1 does not answer"):
        running_jobs()


def test_the_table_and_the_json_have_every_step(config: RunConfig, capsys) -> None:
    record = Run(config).require("curate")
    outputs = record.outputs | {"read": 9, "kept": 7, "rejected": {"image_empty": 2}}
    Run(config).step("curate").finish(outputs)
    status.main(Run(config), Namespace(force=False, json=False))
    table = capsys.readouterr().out
    assert "9 read, 7 kept, 2 rejected" in table
    assert "rejected by curation: image_empty 2" in table
    status.main(Run(config), Namespace(force=False, json=True))
    told = json.loads(capsys.readouterr().out)
    assert told["rejected"] == {"image_empty": 2}
    assert {step["step"] for step in told["steps"]} >= {"curate", "encode", "stage1", "edit", "evaluate"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.4, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (5 * 86400, "5.0 days")],
)
def test_times_are_told_in_a_unit_of_their_size(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
