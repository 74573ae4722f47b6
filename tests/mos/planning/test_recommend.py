"""`auto` against a simulation that walks through the run, and the promises of a budget."""

import itertools
import math
from dataclasses import dataclass, field, replace

import pytest

from mos.planning.machine import CpuMachine, GpuMachine
from mos.planning.recommend import Limits, Use, recommend, table_shares
from mos.planning.sources import SOURCES, StageLoad

TICKS = 40


@dataclass
class Simulation:
    """Walks through a run, stage by stage and tick by tick; a table is the set of its rows."""

    machine: GpuMachine | CpuMachine
    limits: Limits
    dollars: float = 0.0
    largest: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)

    def run(self, loads, choice) -> float:
        for load in loads:
            self.rows[load.kind] = max(self.rows.get(load.kind, 0), load.present)
        for place, (load, source) in enumerate(zip(loads, choice, strict=True)):
            self.drop(list(zip(loads[place:], choice[place:], strict=True)))
            if source in ("cache", "anew"):
                self.encode(load, loads)
            self.train(load, source, loads)
        return self.dollars

    def drop(self, later) -> None:
        """Rows go that nobody counts on: `anew` encodes again what it does not find, `cache` wants it kept."""
        for kind in self.rows:
            stay = renewed = 0
            for load, source in later:
                if load.kind == kind and source == "anew":
                    renewed = max(renewed, load.contexts)
                if load.kind == kind and source == "cache" and load.contexts > renewed:
                    stay = max(stay, load.contexts)
            self.rows[kind] = min(self.rows[kind], stay)

    def table_bytes(self, loads) -> float:
        size = {load.kind: load.state_bytes for load in loads}
        return sum(rows * size[kind] for kind, rows in self.rows.items())

    def spend(self, hours: float, per_hour: float, stored: float) -> None:
        self.largest = max(self.largest, stored)
        self.dollars += hours * (per_hour + stored / 1e9 * self.machine.storage_gb_month / 730)

    def encode(self, load, loads) -> None:
        missing = max(0, load.contexts - self.rows[load.kind])
        before = self.rows[load.kind]
        seconds = missing * load.tower_flops / self.machine.tower_tflops / 1e12 / load.encoders
        for tick in range(TICKS):
            self.rows[load.kind] = before + missing * tick // TICKS
            self.spend(seconds / 3600 / TICKS, load.encoders * self.machine.encode_hour, self.table_bytes(loads))
        self.rows[load.kind] = before + missing

    def train(self, load, source, loads) -> None:
        """All workers take the samples of one tick: the slowest of computing, reading and encoding sets the pace."""
        draws, reads = load.draws / TICKS, load.reads / TICKS
        tower = load.tower_flops / self.machine.tower_tflops / 1e12
        compute = draws * load.train_flops / self.machine.train_tflops / 1e12 / load.workers
        if source == "recompute":
            compute += reads * tower * load.padding / load.workers
        reading = reads * load.state_bytes / self.machine.read_gb_per_s / 1e9 / load.workers
        encoding = reads * tower / load.producers
        read = [compute, reading]
        pace = {"cache": read, "anew": read, "stream": [*read, encoding], "recompute": [compute]}[source]
        lead = min(load.lead_bytes, load.reads * load.state_bytes) if source == "stream" else 0
        for _ in range(TICKS):
            self.spend(max(pace) / 3600, load.workers * self.machine.train_hour, self.table_bytes(loads) + lead)
            if source == "stream":
                self.dollars += reads * tower / 3600 * self.machine.encode_hour


def stage(name: str, contexts: int, draws: int, **values) -> StageLoad:
    figures = {
        "state_bytes": 13.9e6,
        "tower_flops": 2.8e12,
        "train_flops": 5.6e12,
        "workers": 128,
        "encoders": 64,
        "producers": 64,
    }
    return StageLoad(name, contexts, draws, **figures | {"reads_per_draw": 0.9, "padding": 1.5} | values)


FOUR = [
    stage("stage1", 100_000_000, 819_200_000),
    stage("stage2", 100_000_000, 819_200_000, train_flops=19e12),
    stage("stage3", 10_000_000, 51_200_000, train_flops=19e12),
    stage("stage4", 1_000_000, 51_200_000, train_flops=100e12),
]
EDIT = stage("edit", 1_000_000, 51_200_000, train_flops=40e12, tower_flops=8e12, state_bytes=30e6, kind="edit")
DEMO = [
    stage(
        f"stage{i}",
        3_000,
        steps * 32,
        state_bytes=40e3,
        tower_flops=2.5e8,
        train_flops=1e9,
        workers=2,
        encoders=2,
        producers=2,
    )
    for i, steps in enumerate((400, 500, 100, 80), start=1)
]
ONE_PASS = [stage("stage1", 100_000_000, 60_000_000)]
SPOT = GpuMachine(encode_hour=0.8)

SCENARIOS = {
    "the demo on two cores": (DEMO, CpuMachine(), Limits()),
    "mos_s in int4": ([*FOUR, EDIT], GpuMachine(), Limits()),
    "bf16 outruns the network": (
        [replace(load, state_bytes=39e6) for load in FOUR], GpuMachine(read_gb_per_s=0.8), Limits()
    ),
    "a budget of 200 TB": ([*FOUR, EDIT], SPOT, Limits(table_bytes=200e12)),
    "less than one pass": (ONE_PASS, GpuMachine(), Limits()),
    "a table that is there, few encoders": (
        [replace(load, present=100_000_000, encoders=4, producers=4) for load in FOUR], GpuMachine(), Limits()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_choice_costs_at_most_a_tenth_more_than_the_best(name):
    loads, machine, limits = SCENARIOS[name]
    simulated: dict[tuple[str, ...], float] = {}
    for choice in itertools.product([*SOURCES, "anew"], repeat=len(loads)):
        simulation = Simulation(machine, limits)
        dollars = simulation.run(loads, choice)
        sources = tuple("cache" if name == "anew" else name for name in choice)
        if limits.table_bytes is None or simulation.largest <= limits.table_bytes:
            simulated[sources] = min(dollars, simulated.get(sources, math.inf))
    items = recommend(loads, machine, limits)
    chosen = tuple(item.source for item in items)
    assert simulated[chosen] <= 1.1 * min(simulated.values())
    assert items[0].chosen.run_dollars == pytest.approx(simulated[chosen], rel=0.02)


def test_the_scenarios_call_for_every_source():
    chosen = {
        item.source for loads, machine, limits in SCENARIOS.values() for item in recommend(loads, machine, limits)
    }
    assert chosen == set(SOURCES)


@pytest.mark.parametrize("budget", [0.0, 10e9, 20e12, 200e12, 2e15])
def test_nothing_beyond_the_budget_is_recommended(budget):
    loads, limits = [*FOUR, EDIT], Limits(table_bytes=budget)
    items = recommend(loads, GpuMachine(), limits)
    assert all(item.chosen.fits and item.chosen.cost.bytes_held <= budget for item in items)
    if budget == 0:
        assert {item.source for item in items} == {"recompute"}
        assert "with a budget of 0 B" in items[0].why


def test_a_budget_costs_money_and_never_saves_any():
    dollars = [
        recommend(FOUR, GpuMachine(), Limits(table_bytes=budget))[0].chosen.run_dollars
        for budget in (0.0, 200e12, 2e15, None)
    ]
    assert dollars == sorted(dollars, reverse=True)


def test_sources_can_be_ruled_out():
    items = recommend([replace(load, allowed=("stream",)) for load in FOUR], GpuMachine())
    assert [item.source for item in items] == ["stream"] * 4
    cached = [replace(load, allowed=("cache",)) for load in FOUR]
    with pytest.raises(ValueError, match="budget"):
        recommend(cached, GpuMachine(), Limits(table_bytes=1e12))


def test_a_choice_stands_when_its_stage_comes():
    """`auto` decides stage by stage, from the stages that are left and the rows that are there: as the whole plan."""
    loads = [*FOUR, EDIT]
    plan = [item.source for item in recommend(loads, GpuMachine())]
    rows = {"generate": 0, "edit": 0}
    for place, load in enumerate(loads):
        left = [replace(other, present=rows[other.kind]) for other in loads[place:]]
        assert recommend(left, GpuMachine())[0].source == plan[place]
        rows[load.kind] = max(rows[load.kind], load.contexts if plan[place] == "cache" else 0)


def test_stages_share_a_table():
    stream, cache, recompute = Use("stream"), Use("cache"), Use("recompute")
    shares = table_shares([stream, cache, recompute, cache, cache], [*FOUR, EDIT])
    assert [share.new for share in shares] == [0, 100_000_000, 0, 0, 1_000_000]
    held = [share.held_bytes for share in shares]
    assert held == [0, 100_000_000 * 13.9e6, 1_000_000 * 13.9e6, 1_000_000 * 13.9e6, 1_000_000 * 30e6]


def test_reasons_are_one_sentence_with_figures():
    for item in recommend([*FOUR, EDIT], GpuMachine()):
        assert item.why.endswith(".")
        assert item.why.count("$") >= 2
        assert "\n" not in item.why
        assert sum(option.cost.source in item.why for option in item.alternatives) >= 2


def test_rows_may_be_dropped_between_two_uses():
    cache, anew, stream = Use("cache"), Use("cache", kept=False), Use("stream")
    shares = table_shares([cache, stream, anew, cache], FOUR)
    assert [share.new for share in shares] == [100_000_000, 0, 10_000_000, 0]
    assert [round(share.held_bytes / 13.9e6) for share in shares] == [100_000_000, 0, 10_000_000, 1_000_000]


def test_too_few_producers_are_named():
    few = [replace(load, producers=4) for load in FOUR[:1]]
    [item] = recommend(few, GpuMachine())
    assert "wait 91% of its time (47 producers would keep up)" in item.why
