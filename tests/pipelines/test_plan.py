"""The planner from config to page: every config without a run, tables where they stand, a budget, measured speeds."""

import json
import runpy
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from mos.checkout import CLONE
from mos.errors import UserError
from mos.planning.sources import SOURCES
from mos.states.keys import context_key
from mos.states.payload import StateCodec
from mos.tables.schema import TASK_EDIT, samples_schema
from mos.tables.state_tables import states_schema
from pipelines.cost import measure as measuring
from pipelines.cost.figures import contexts_of, recommend_sources, stage_figures
from pipelines.run.config import RunConfig, load_run
from pipelines.run.states_table import standing_uri
from tests.mos.tables import sample_tables as tables

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


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
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


def test_what_stands_in_the_tables_is_counted(demo_run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measuring, "SECONDS", 0.05)
    narrow = ("stage1.resolution=16", "edit.resolution=16", "edit.sources={c = 1.0}", "edit.tasks=['edit']")
    config = demo_run(*narrow, "encode.state_format=bf16")
    rows = [tables.sample(number, number >= 40) for number in range(50)]
    Path(config.samples_uri()).parent.mkdir(parents=True)
    tables.write(Path(config.samples_uri()), pa.Table.from_pylist(rows, samples_schema((16,))))
    pairs, edits = contexts_of(config, "stage1"), contexts_of(config, "edit")
    assert (pairs.samples, pairs.distinct, pairs.present) == (40, 31, 0)  # 30 captions and the empty one
    assert (edits.samples, edits.distinct) == (10, 11)
    assert pairs.counted == "samples table"
    assert 4 <= pairs.tokens.mean <= 6  # [CLS] caption <number> [SEP]
    assert stage_figures(config, "edit").load.kind == TASK_EDIT
    write_states(config, [f"caption {number}" for number in range(12)])
    assert contexts_of(config, "stage1").present == 12
    assert 0 < measuring.measure_reading(config) < 100  # GB/s


def write_states(config: RunConfig, captions: list[str]) -> None:
    """A states table where the run would look for its own."""
    uri = standing_uri(config)
    assert uri is not None
    codec = StateCodec("bf16", tuple(range(7)), 384)
    states = codec.quantise(torch.randn(5, 7, 384).bfloat16())
    rows = {
        "context_key": [context_key(caption) for caption in captions],
        "num_tokens": [5] * len(captions),
        "payload": [codec.pack(states)] * len(captions),
    }
    Path(uri).parent.mkdir(parents=True)
    tables.write(Path(uri), pa.table(rows, states_schema("minilm", codec)))


def test_auto_chooses_and_named_sources_stay(demo_run):
    auto = tuple(f"stage{i}.states.type=auto" for i in (1, 2, 3, 4))
    items = recommend_sources(demo_run(*auto, "edit.states.type=stream"))
    assert items["edit"].source == "stream"
    assert items["stage1"].source == "cache"
    starved = demo_run(*auto, "edit.states.type=recompute", "plan.max_table_gb=0")
    assert {item.source for item in recommend_sources(starved).values()} == {"recompute"}
    with pytest.raises(UserError, match=r"max_table_gb = 0 is too little"):
        recommend_sources(demo_run("plan.max_table_gb=0"))


def test_speeds_can_be_measured(demo_run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measuring, "SECONDS", 0.05)
    config = demo_run("stage2.batch_size=4", "model.num_blocks=1")
    assumed = config.plan.machine_for(0)
    measured = measuring.measure_machine(config, assumed)
    assert 0 < measured.train_tflops < 10
    assert 0 < measured.tower_tflops < 10
    assert measured.read_gb_per_s == assumed.read_gb_per_s  # there is no table to read yet
    assert measured.train_hour == assumed.train_hour
