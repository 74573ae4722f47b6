"""The planner from config to page: every config without a run, a budget, a stage that nobody has figures of."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from mos.checkout import CLONE
from mos.planning.sources import SOURCES
from pipelines.run.config import load_run

CONFIGS = sorted((CLONE / "pipelines/configs").glob("*.toml"))


def plan(clone: Path, *arguments: str) -> int:
    """Exit status of the script, run in this process."""
    argv, path = sys.argv, list(sys.path)
    sys.argv = ["plan.py", *arguments]
    try:
        runpy.run_path(str(clone / "pipelines/plan.py"), run_name="__main__")
    except SystemExit as status:
        return int(status.code or 0)
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0


def test_a_config_without_a_stage_has_no_plan(clone: Path, tmp_path: Path, capsys):
    assert plan(clone, str(clone / "pipelines/configs/codec.toml"), f"root={tmp_path}") == 2
    assert "config 'codec' has no training stage: add [stage1]" in capsys.readouterr().err


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem != "codec"], ids=lambda path: path.stem)
def test_every_config_is_planned_without_a_run(path: Path, clone: Path, tmp_path: Path, capsys):
    assert plan(clone, str(path), f"root={tmp_path}") == 0
    page = " ".join(capsys.readouterr().out.split())
    tree = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert list(tree["stages"]) == list(load_run(path).stages())
    for name, stage in tree["stages"].items():
        assert f"{name}: {stage['source']}" in page
        assert " ".join(stage["why"].split()) in page
        assert [option["cost"]["source"] for option in stage["alternatives"]] == list(SOURCES)
        assert stage["bytes"]["raw"] > stage["bytes"]["bf16"] > stage["bytes"]["int8"] > stage["bytes"]["int4"]
    for word in ("samples", "tokens", "encode", "waiting", "states kept", "All stages as recommended"):
        assert word in page


def test_a_budget_is_kept(clone: Path, tmp_path: Path, capsys):
    config = str(clone / "pipelines/configs/mos_s.toml")
    assert plan(clone, config, f"root={tmp_path}", "max_table_gb=100_000") == 0
    assert "with a budget of 100 TB" in " ".join(capsys.readouterr().out.split())
    for stage in json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))["stages"].values():
        chosen = next(option for option in stage["alternatives"] if option["cost"]["source"] == stage["source"])
        assert chosen["fits"]
        assert chosen["cost"]["bytes_held"] <= 100e12


def test_a_stage_without_any_figure_is_explained(clone: Path, tmp_path: Path, capsys):
    config = str(clone / "pipelines/configs/mos_s.toml")
    assert plan(clone, config, f"root={tmp_path}", "samples={stage1 = 5}") == 2
    assert "plan.samples.stage2=<number>" in capsys.readouterr().err
