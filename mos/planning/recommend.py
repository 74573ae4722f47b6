"""Which source of states each stage should use: the cheapest choice for the run that keeps to its byte budget.

    loads = [StageLoad("stage1", ...), StageLoad("stage2", ...)]     # this stage and those after it, in order
    recommend(loads, GpuMachine(), Limits(table_bytes=2e15))[0].source          # "cache", "stream" or "recompute"

Stages share a table, so the choice of one changes what another costs: all combinations are compared (four to the
power of at most five stages).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mos.planning.sources import SOURCES, Machine, SourceCost, SourceName, StageLoad, TableShare, source_cost
from mos.planning.units import amount, bytes_text, hours_text, money


@dataclass(frozen=True)
class Limits:
    """Limits that a plan keeps to."""

    table_bytes: float | None = None
    """Hard bound on the bytes of states at rest, of tables and of a stream's lead together; None: no bound."""


@dataclass(frozen=True)
class Use:
    """A stage's source, and whether it counts on rows that stand in the table before it."""

    source: SourceName
    kept: bool = True
    """False: rows between two uses were dropped, since holding them costs more than encoding them anew."""


USES = (Use("cache"), Use("cache", kept=False), Use("stream"), Use("recompute"))


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
    """Recommended source of one stage."""

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
        limits: the byte budget; default is none.

    Raises:
        ValueError: no allowed source keeps to the budget in some stage.
    """
    limits = limits or Limits()
    runs = {uses: _price(uses, loads, machine, limits) for uses in itertools.product(USES, repeat=len(loads))}
    possible = [uses for uses, run in runs.items() if run.fits and _allowed(uses, loads)]
    if not possible:
        raise ValueError("no allowed source of states keeps to the byte budget: allow recompute, which stores nothing")
    best = min(possible, key=lambda uses: runs[uses].dollars)
    results = []
    for index, load in enumerate(loads):
        options = []
        for source in SOURCES:
            same = [(*best[:index], use, *best[index + 1 :]) for use in USES if use.source == source]
            run = min((runs[uses] for uses in same), key=lambda run: (not run.fits, run.dollars))
            options.append(Alternative(run.costs[index], run.dollars, run.fits))
        why = _why(load, best[index].source, options, limits)
        results.append(Recommendation(load.name, best[index].source, why, tuple(options)))
    return results


def table_shares(uses: Sequence[Use], loads: Sequence[StageLoad]) -> list[TableShare]:
    """Share of each stage in the shared table, if a row goes as soon as no stage counts on it any more."""
    kinds = {load.kind: _kind_rows(load.kind, uses, loads) for load in loads}
    size = {load.kind: load.state_bytes for load in loads}
    shares = []
    for index, load in enumerate(loads):
        held_bytes = sum(held[index] * size[kind] for kind, (_, held) in kinds.items())
        shares.append(TableShare(kinds[load.kind][0][index], held_bytes))
    return shares


def _kind_rows(kind: str, uses: Sequence[Use], loads: Sequence[StageLoad]) -> tuple[list[int], list[int]]:
    """Rows encoded for each stage and rows kept while it trains, of the contexts of one kind (nested views)."""
    stages = [
        (load.contexts if load.kind == kind and use.source == "cache" else 0, use.kept)
        for load, use in zip(loads, uses, strict=True)
    ]
    there = max(load.present for load in loads if load.kind == kind)
    new, held = [], []
    for index, (rows, _) in enumerate(stages):
        there = min(there, _counted_on(stages[index:]))
        new.append(max(0, rows - there))
        there = max(there, rows)
        held.append(there)
    return new, held


def _counted_on(stages: Sequence[tuple[int, bool]]) -> int:
    """Rows that a later stage reads from the table and that no earlier one encodes again."""
    stay = renewed = 0
    for rows, kept in stages:
        if not kept:
            renewed = max(renewed, rows)
        elif rows > renewed:
            stay = max(stay, rows)
    return stay


def _allowed(uses: Sequence[Use], loads: Sequence[StageLoad]) -> bool:
    return all(use.source in load.allowed for use, load in zip(uses, loads, strict=True))


def _price(uses: Sequence[Use], loads: Sequence[StageLoad], machine: Machine, limits: Limits) -> _Run:
    """Costs of a run with one source for each stage."""
    shares = table_shares(uses, loads)
    costs = tuple(
        source_cost(use.source, load, machine, share) for use, load, share in zip(uses, loads, shares, strict=True)
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
                made = f"{amount(load.contexts)} contexts stand in the table by then"
            read = f"are read {load.reads_per_context:.1f} times each"
            return f"{made} and {read}, kept for {money(cost.storage_dollars)}"
        case "stream":
            return (
                f"each of {amount(load.reads)} reads is encoded by encode workers ({hours_text(cost.encode_hours)}) "
                f"and only a lead of {bytes_text(cost.lead_bytes)} is kept"
            )
        case "recompute":
            share = cost.tower_hours / cost.train_hours
            return f"the tower takes {share:.0%} of the training workers' time and nothing is stored or read"


def _difference(option: Alternative, chosen: Alternative, limits: Limits) -> str:
    """Sentence on another source: its price, or why it cannot be."""
    cost, extra = option.cost, option.run_dollars - chosen.run_dollars
    text = f"{cost.source} would cost {money(abs(extra))} {'more' if extra >= 0 else 'less'}"
    if cost.wait_hours >= 0.01 * cost.train_hours:
        text += f" and wait {cost.wait_hours / cost.train_hours:.0%} of its time{_remedy(cost)}"
    if not option.fits and limits.table_bytes is not None:
        text += f" but keeps {bytes_text(cost.bytes_held)} with a budget of {bytes_text(limits.table_bytes)}"
    return text


def _remedy(cost: SourceCost) -> str:
    """Producers that a stream would need, where it is they who are slow."""
    workers = math.ceil(cost.encoders_to_keep_up)
    return f" ({workers} producers would keep up)" if cost.source == "stream" and cost.short_of_producers else ""
