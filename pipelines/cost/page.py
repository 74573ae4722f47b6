"""A plan on the terminal and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from mos.planning.machine import MachineConfig
from mos.planning.recommend import Alternative, Recommendation, recommend
from mos.planning.units import amount, bytes_text, hours_text, money, prefixed
from mos.states.packed import FormatName
from pipelines.cost.figures import FORMATS, StageFigures, limits_of, short_lead, tower_params
from pipelines.run.config import RunConfig


def print_plan(
    config: RunConfig,
    machine: MachineConfig,
    figures: Mapping[str, StageFigures],
    recommended: Sequence[Recommendation],
    console: Console,
) -> None:
    """The plan as text: assumptions, reads of each stage, cost of each source of states, and advice."""
    console.print(f"[bold]Plan of {config.name}[/bold]  {assumptions(config, machine)}\n", highlight=False)
    console.print(reading_table(config, machine, figures))
    console.print(cost_table(config, recommended))
    console.print("[bold]Recommendation[/bold]")
    for item in recommended:
        named = config.stage(item.stage).states.type
        note = "" if named in (item.source, "auto") else f" [dim](configured: {named})[/dim]"
        console.print(f"  [bold]{item.stage}: {item.source}[/bold]{note}  {item.why}", highlight=False)
        short = short_lead(config, item.stage, figures[item.stage].load) if item.source == "stream" else None
        if short is not None:
            console.print(f"  [bold]![/bold] {short}", highlight=False)
    total = recommended[0].chosen.run_dollars
    others = ", ".join(f"{format} {money(dollars)}" for format, dollars in other_formats(config, machine, figures))
    console.print(f"  All stages as recommended: {money(total)}; at their best with other formats: {others}.\n")


def assumptions(config: RunConfig, machine: MachineConfig) -> str:
    """The figures that everything below rests on."""
    limits, model = limits_of(config), config.model
    budget = "no byte budget" if limits.table_bytes is None else f"at most {bytes_text(limits.table_bytes)} of states"
    layers, params = f"{model.state_layers} x {model.state_dim}", amount(tower_params(config))
    train_speed, tower_speed = (
        prefixed(tflops * 1e12, "FLOP/s") for tflops in (machine.train_tflops, machine.tower_tflops)
    )
    return (
        f"{config.encode.tower.type} ({layers}, {params} parameters), states as {config.encode.state_format}; "
        f"{config.cluster.train.num} training workers at {train_speed} and {money(machine.train_hour)}/h, "
        f"up to {config.encode.actors.max} encode workers at {tower_speed} and {money(machine.encode_hour)}/h; "
        f"a worker reads {bytes_text(machine.read_gb_per_s * 1e9)}/s; "
        f"{money(machine.storage_gb_month)} per GB and month; {budget}."
    )


def other_formats(
    config: RunConfig, machine: MachineConfig, figures: Mapping[str, StageFigures]
) -> list[tuple[FormatName, float]]:
    """Cost of the run with states stored in each other format, dollars."""
    results = []
    for format in FORMATS:
        if format != config.encode.state_format:
            loads = [replace(stage.load, state_bytes=stage.bytes_at_rest[format]) for stage in figures.values()]
            results.append((format, recommend(loads, machine, limits_of(config))[0].chosen.run_dollars))
    return results


def reading_table(config: RunConfig, machine: MachineConfig, figures: Mapping[str, StageFigures]) -> Table:
    """Samples, lengths, bytes and bandwidths of every stage."""
    stored = config.encode.state_format
    table = Table(title="What each stage reads", title_justify="left")
    for name in ("stage", "samples", "contexts", "tokens", "reads each"):
        table.add_column(name, justify="left" if name in ("stage", "tokens") else "right")
    table.add_column("raw bf16", justify="right")
    for format in FORMATS:
        table.add_column(f"[bold]{format}[/bold]" if format == stored else format, justify="right")
    for name, stage in figures.items():
        tokens, contexts = stage.contexts.tokens, stage.contexts
        spread = f"{tokens.mean:.0f} ({tokens.quantile(0.05)}–{tokens.quantile(0.95)}) {tokens.bars()}"
        sizes = [bytes_text(contexts.distinct * stage.raw_bytes)]
        for format in FORMATS:
            rate = bytes_text(stage.bytes_per_s(format, machine))
            sizes.append(f"{bytes_text(contexts.distinct * stage.bytes_at_rest[format])}\n{rate}/s")
        samples = f"{amount(contexts.samples)}\n[dim]{contexts.counted}[/dim]"
        reads = f"{stage.load.reads_per_context:.1f}"
        table.add_row(name, samples, amount(contexts.distinct), spread, reads, *sizes)
    table.caption = "whole table, below it what one training worker reads per second at full speed"
    return table


def cost_table(config: RunConfig, recommended: Sequence[Recommendation]) -> Table:
    """Every stage with every source."""
    worker = "GPU-h" if config.cluster.train.gpus else "core-h"
    table = Table(title="What each source costs", title_justify="left")
    table.add_column("stage")
    table.add_column("source")
    for name in ("tower", f"encode {worker}", f"train {worker}", "of it waiting", "states kept", "stage", "run"):
        table.add_column(name, justify="right")
    for item in recommended:
        for option in item.alternatives:
            style = "bold" if option.cost.source == item.source else None if option.fits else "dim"
            first = item.stage if option is item.alternatives[0] else ""
            table.add_row(first, *_cost_cells(option, option.cost.source == item.source), style=style)
        table.add_section()
    table.caption = "stage: this stage alone; run: all stages, the others as recommended; ! beyond the byte budget"
    return table


def _cost_cells(option: Alternative, chosen: bool) -> list[str]:
    cost = option.cost
    return [
        f"{'→' if chosen else ' ' if option.fits else '!'} {cost.source}",
        prefixed(cost.tower_flops, "FLOP"),
        hours_text(cost.encode_hours) if cost.encode_hours else "-",
        hours_text(cost.train_hours),
        f"{cost.wait_hours / cost.train_hours:.0%}",
        bytes_text(cost.bytes_held) if cost.bytes_held else "-",
        money(cost.dollars),
        money(option.run_dollars),
    ]


def plan_tree(
    config: RunConfig,
    machine: MachineConfig,
    figures: Mapping[str, StageFigures],
    recommended: Sequence[Recommendation],
) -> dict[str, Any]:
    """The plan as plain values; bytes, hours, dollars and FLOPs without prefixes."""
    stages = {}
    for item in recommended:
        stage = figures[item.stage]
        stages[item.stage] = {
            "source": item.source,
            "why": item.why,
            "load": asdict(stage.load),
            "samples": stage.contexts.samples,
            "counted": stage.contexts.counted,
            "tokens": asdict(stage.contexts.tokens),
            "bytes": {"raw": stage.contexts.distinct * stage.raw_bytes}
            | {format: stage.contexts.distinct * size for format, size in stage.bytes_at_rest.items()},
            "bytes_per_s": {format: stage.bytes_per_s(format, machine) for format in FORMATS},
            "alternatives": [asdict(option) for option in item.alternatives],
        }
    return {
        "name": config.name,
        "format": config.encode.state_format,
        "tower_params": tower_params(config),
        "machine": machine.model_dump(),
        "limits": asdict(limits_of(config)),
        "stages": stages,
    }
