"""Which source of states each stage should use: the cheapest choice for the run that keeps to its byte budget.

    loads = [StageLoad("stage1", ...), StageLoad("stage2", ...)]     # this stage and those after it, in order
    recommend(loads, GpuMachine(), Limits(table_bytes=2e15))[0].source          # "cache", "stream" or "recompute"

Stages share a table, so the choice of one changes what another costs: all combinations are compared (three to the
power of at most five stages).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mos.planning.sources import SOURCES, Machine, SourceCost, SourceName, StageLoad, TableShare, source_cost
from mos.planning.units import amount, bytes_text, hours_text, money


@dataclass(frozen=True)
class Limits:
    """What a plan keeps to."""

    table_bytes: float | None = None
    """Hard bound on the bytes of states at rest, of tables and of a stream's lead together; None: no bound."""
    lead_bytes: float = 64e9
    """How far a stream's producers may run ahead of the trainer."""
    allowed: tuple[SourceName, ...] = SOURCES
    """Sources to choose from."""


@dataclass(frozen=True)
class Alternative:
    """One source for a stage, every other stage as recommended."""

    cost: SourceCost
    """Of this stage."""
    run_dollars: float
    """Of all stages."""
    fits: bool
    """Whether the budget allows it."""


@dataclass(frozen=True)
class Recommendation:
    """What to do in one stage."""

    stage: str
    source: SourceName
    why: str
    """One sentence."""
    alternatives: tuple[Alternative, ...]
    """Every source, the recommended one included, in the order of `SOURCES`."""

    @property
    def chosen(self) -> Alternative:
        """The recommended source."""
        return next(option for option in self.alternatives if option.cost.source == self.source)


@dataclass(frozen=True)
class _Run:
    """One source for each stage, and what it comes to."""

    costs: tuple[SourceCost, ...]
    dollars: float
    fits: bool


def recommend(loads: Sequence[StageLoad], machine: Machine, limits: Limits | None = None) -> list[Recommendation]:
    """The cheapest source of each stage, for the stages of a run from the next one on.

    Args:
        loads: stages in training order.
        machine: speeds and prices.
        limits: the byte budget and a stream's lead; default is no budget.

    Raises:
        ValueError: no allowed source keeps to the budget in some stage.
    """
    limits = limits or Limits()
    runs = {choice: _price(choice, loads, machine, limits) for choice in itertools.product(SOURCES, repeat=len(loads))}
    open_to_us = [choice for choice, run in runs.items() if run.fits and set(choice) <= set(limits.allowed)]
    if not open_to_us:
        raise ValueError("no source of states keeps to the byte budget: allow recompute, which stores nothing")
    best = min(open_to_us, key=lambda choice: runs[choice].dollars)
    results = []
    for place, load in enumerate(loads):
        options = []
        for source in SOURCES:
            run = runs[(*best[:place], source, *best[place + 1 :])]
            options.append(Alternative(run.costs[place], run.dollars, run.fits))
        why = _why(load, best[place], options, limits)
        results.append(Recommendation(load.name, best[place], why, tuple(options)))
    return results


def table_shares(choice: Sequence[SourceName], loads: Sequence[StageLoad]) -> list[TableShare]:
    """What of the shared table falls to each stage.

    A context is encoded before the first stage that caches it and kept until the last one that does; stages of one
    kind have nested views, so the largest counts.
    """
    kinds = {load.kind: _kind_rows(load.kind, choice, loads) for load in loads}
    size = {load.kind: load.state_bytes for load in loads}
    shares = []
    for place, load in enumerate(loads):
        held_bytes = sum(held[place] * size[kind] for kind, (_, held) in kinds.items())
        shares.append(TableShare(kinds[load.kind][0][place], held_bytes))
    return shares


def _kind_rows(kind: str, choice: Sequence[SourceName], loads: Sequence[StageLoad]) -> tuple[list[int], list[int]]:
    """Rows encoded for each stage and rows kept while it trains, of the contexts of one kind."""
    wanted = [
        load.contexts if load.kind == kind and source == "cache" else 0
        for load, source in zip(loads, choice, strict=True)
    ]
    there = max(load.present for load in loads if load.kind == kind)
    new, held = [], []
    for place, rows in enumerate(wanted):
        new.append(max(0, rows - there))
        there = max(there, rows)
        held.append(min(there, max(wanted[place:])))
    return new, held


def _price(choice: Sequence[SourceName], loads: Sequence[StageLoad], machine: Machine, limits: Limits) -> _Run:
    """What a run costs with one source for each stage."""
    shares = table_shares(choice, loads)
    costs = tuple(
        source_cost(source, load, machine, share, limits.lead_bytes)
        for source, load, share in zip(choice, loads, shares, strict=True)
    )
    fits = limits.table_bytes is None or all(cost.bytes_held <= limits.table_bytes for cost in costs)
    return _Run(costs, sum(cost.dollars for cost in costs), fits)


def _why(load: StageLoad, source: SourceName, options: Sequence[Alternative], limits: Limits) -> str:
    """One sentence: what decides the choice, and what the others would cost the run."""
    by_source = {option.cost.source: option for option in options}
    others = [_difference(option, by_source[source], limits) for name, option in by_source.items() if name != source]
    return f"{_reason(load, by_source[source].cost)}; {', '.join(others)}."


def _reason(load: StageLoad, cost: SourceCost) -> str:
    match cost.source:
        case "cache":
            made = f"{amount(load.contexts)} contexts are encoded once ({hours_text(cost.encode_hours)} of encoding)"
            if cost.encode_hours == 0:
                made = f"{amount(load.contexts)} contexts already stand in the table"
            return f"{made} and read {load.reads_per_context:.1f} times each, kept for {money(cost.storage_dollars)}"
        case "stream":
            return (
                f"each of {amount(load.reads)} reads is encoded by encode workers ({hours_text(cost.encode_hours)}) "
                f"and only a lead of {bytes_text(cost.lead_bytes)} is kept"
            )
        case "recompute":
            share = cost.tower_hours / cost.train_hours
            return f"the tower takes {share:.0%} of the training workers' time and nothing is stored or read"


def _difference(option: Alternative, chosen: Alternative, limits: Limits) -> str:
    """What another source would change, and whether it could."""
    cost, extra = option.cost, option.run_dollars - chosen.run_dollars
    text = f"{cost.source} would cost {money(abs(extra))} {'more' if extra >= 0 else 'less'}"
    if cost.wait_hours >= 0.01 * cost.train_hours:
        text += f" and wait {cost.wait_hours / cost.train_hours:.0%} of its time"
    if not option.fits and limits.table_bytes is not None:
        text += f" but keeps {bytes_text(cost.bytes_held)} with a budget of {bytes_text(limits.table_bytes)}"
    return text
