"""The plan as people and programs read it: what is assumed, what is chosen, what would not fit."""

import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from mos.planning.machine import CpuMachine
from mos.planning.recommend import Recommendation, recommend
from mos.planning.sources import SOURCES
from pipelines.cost.figures import StageFigures, limits_of, stage_figures
from pipelines.cost.page import assumptions, cost_table, other_formats, plan_tree, print_plan, reading_table
from pipelines.run.config import RunConfig

SMALL = ("cluster.train={num=1, cpus=1}", "encode.state_format=int8", "plan.tokens=[[10, 1.0]]")


@pytest.fixture
def small(small_run) -> Callable[..., RunConfig]:
    """The demo's first stage and its editing stage alone."""

    def load(*overrides: str) -> RunConfig:
        return small_run(*SMALL, *overrides).model_copy(update=dict.fromkeys(("stage2", "stage3", "stage4")))

    return load


def planned(config: RunConfig) -> tuple[CpuMachine, dict[str, StageFigures], list[Recommendation]]:
    machine = CpuMachine()
    figures = {name: stage_figures(config, name) for name in config.stages()}
    return machine, figures, recommend([stage.load for stage in figures.values()], machine, limits_of(config))


def column(table: Table, name: str) -> list[str]:
    """Cells of one column."""
    return next(list(column.cells) for column in table.columns if column.header == name)


def test_assumptions_are_the_config_and_the_machine(small):
    machine = CpuMachine(train_tflops=0.5, tower_tflops=0.25, read_gb_per_s=2, train_hour=3, encode_hour=4)
    said = assumptions(small("encode.actors={max=5}"), machine)
    for words in (
        "minilm (6 x 384, 10.6M parameters), states as int8",
        "1 training workers at 500 GFLOP/s and $3.00/h",
        "up to 5 encode workers at 250 GFLOP/s and $4.00/h",
        "a worker reads 2 GB/s; $0.08 per GB and month; no byte budget.",
    ):
        assert words in said
    assert "at most 2.5 GB of states." in assumptions(small("plan.max_table_gb=2.5"), machine)


def test_what_a_stage_reads_stands_in_its_row(small):
    config = small()
    machine, figures, _ = planned(config)
    figures["stage1"] = replace(
        figures["stage1"],
        raw_bytes=1000,
        bytes_at_rest={"bf16": 500.0, "int8": 250.0, "int4": 125.0},
        load=replace(figures["stage1"].load, train_flops=0.08e12, reads_per_draw=1.0, draws=9600),
    )
    table = reading_table(config, machine, figures)
    assert column(table, "stage") == ["stage1", "edit"]
    assert column(table, "samples")[0] == "4,800\n[dim]plan.samples[/dim]"
    assert column(table, "contexts")[0] == "4,800"
    assert column(table, "tokens")[0].startswith("10 (10–10) ")
    assert column(table, "reads each")[0] == "2.0"
    assert column(table, "raw bf16")[0] == "4.8 MB"
    assert column(table, "bf16")[0] == "2.4 MB\n500 B/s"
    assert column(table, "[bold]int8[/bold]")[0] == "1.2 MB\n250 B/s"


def test_of_every_stage_one_source_is_marked_and_what_is_beyond_the_budget(small):
    for overrides, marks in (((), "→  "), (("plan.max_table_gb=0",), "!!→")):
        config = small(*overrides)
        _, _, recommended = planned(config)
        table = cost_table(config, recommended)
        cells = column(table, "source")
        assert [cell[2:] for cell in cells] == [*SOURCES, *SOURCES]
        assert column(table, "stage") == ["stage1", "", "", "edit", "", ""]
        for first, item in ((0, recommended[0]), (3, recommended[1])):
            chosen = SOURCES.index(item.source)
            assert [place for place in range(3) if cells[first + place][0] == "→"] == [chosen]
        assert "".join(cell[0] for cell in cells[:3]) == marks


def test_hours_are_those_of_what_trains(small):
    _, _, recommended = planned(small())
    assert "train core-h" in [column.header for column in cost_table(small(), recommended).columns]
    on_gpus = small("cluster.train={num=1, gpus=1}")
    assert "train GPU-h" in [column.header for column in cost_table(on_gpus, recommended).columns]


def test_other_formats_are_priced_without_the_one_that_is_stored(small):
    config = small()
    machine, figures, _ = planned(config)
    machine = machine.model_copy(update={"storage_gb_month": 1e6})
    dear = {name: replace(stage, load=replace(stage.load, allowed=("cache",))) for name, stage in figures.items()}
    prices = dict(other_formats(config, machine, dear))
    assert list(prices) == ["bf16", "int4"]
    stored = recommend([stage.load for stage in dear.values()], machine)[0].chosen.run_dollars
    assert prices["bf16"] > stored > prices["int4"]


@pytest.mark.parametrize(
    ("states", "note"),
    [("cache", "(configured: cache)"), ("recompute", ""), ("auto", ""), ("stream", "(configured: stream)")],
)
def test_a_page_tells_where_the_config_says_otherwise(small, states: str, note: str):
    config = small("plan.max_table_gb=0", f"stage1.states.type={states}", "edit.states.type=auto")
    page = io.StringIO()
    print_plan(config, *planned(config), Console(width=300, file=page))
    lines = page.getvalue().splitlines()
    line = next(line for line in lines if line.startswith("  stage1: recompute"))
    assert note in line
    assert ("(configured" in line) == bool(note)
    assert not any("(configured" in line for line in lines if line.startswith("  edit:"))
    assert any(line.startswith(f"Plan of {config.name}") for line in lines)


def test_the_tree_is_plain_data_without_prefixes(small):
    config = small("plan.max_table_gb=2.5")
    machine, figures, recommended = planned(config)
    tree = json.loads(json.dumps(plan_tree(config, machine, figures, recommended)))
    assert (tree["name"], tree["format"], tree["limits"]) == ("small", "int8", {"table_bytes": 2.5e9})
    assert tree["machine"]["train_hour"] == machine.train_hour
    stage = tree["stages"]["stage1"]
    assert stage["bytes"]["raw"] == 4800 * 2 * 10 * 7 * 384
    assert stage["load"]["draws"] == 32_000
    assert stage["tokens"] == {"lengths": [10], "shares": [1.0]}
    chosen = next(option for option in stage["alternatives"] if option["cost"]["source"] == stage["source"])
    assert chosen["run_dollars"] == recommended[0].chosen.run_dollars
