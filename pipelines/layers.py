#!/usr/bin/env python3
"""Layers: which hidden states a trained router reads, and which a smaller table could do without.

Reads   the export of the last finished text-to-image stage (or of `sample.stage`); prompts as pipelines/sample.py
Writes  <root>/report/layers.json and layers.png

  python pipelines/layers.py
  python pipelines/layers.py num_images=64 sampler.steps=8
  python pipelines/layers.py prompt="two green stars"
"""

import json
import sys
from argparse import Namespace
from dataclasses import asdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="sample")

from rich.console import Console
from rich.table import Table

from mos.evaluation.theme import LIGHT, figure_png
from mos.evaluation.usage_figure import usage_figure
from mos.sampling.draw import load_for_drawing
from mos.sampling.layer_usage import LayerSubset, LayerUsage, layer_usage, suggested_subsets
from mos.sampling.traced import draw_traced
from pipelines.draw.requests import choose_prompts, export_folder, text_stage
from pipelines.run.steps import Run


def main(run: Run, args: Namespace) -> None:
    """Draw the prompts with the router's choices kept, add them up, name the layers worth holding."""
    config = run.config
    stage = text_stage(run, config.sample.stage)
    pipeline = load_for_drawing(export_folder(run, stage), device=config.cluster.generate.device)
    traces = []
    for number, prompt in enumerate(choose_prompts(run)):
        traces.append(draw_traced(pipeline, prompt, config.sample.sampler, seed=config.seed + number).trace)
        print(f"layers: {number + 1} pictures traced", flush=True)
    usage = layer_usage(traces)
    subsets = suggested_subsets(usage)
    folder = config.folder("report")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "layers.json").write_text(json.dumps(usage_tree(usage, subsets), indent=2) + "\n", encoding="utf-8")
    (folder / "layers.png").write_bytes(figure_png(partial(usage_figure, usage), LIGHT))
    console = Console()
    console.print(step_table(usage))
    console.print(subset_table(subsets))
    print(
        "layers: for one of these tables set encode.layers to its list, model.routed_layers to the list without the 0 "
        "and model.state_layers to the number of those; the model is then trained anew, with model.fusion.router.top_k "
        "at most model.state_layers"
    )
    print(f"layers: {folder / 'layers.json'}", flush=True)


def step_table(usage: LayerUsage) -> Table:
    """Share of the picks of each layer, at up to eight steps."""
    table = Table(title="share of the picks by timestep and layer", title_justify="left")
    table.add_column("t")
    for layer in usage.layers:
        table.add_column(str(layer), justify="right")
    stride = -(-len(usage.timesteps) // 8)
    for t, row in zip(usage.timesteps.tolist()[::stride], usage.by_step.tolist()[::stride], strict=True):
        table.add_row(f"{t:.2f}", *(f"{share:.0%}" for share in row))
    table.add_section()
    table.add_row("all", *(f"{share:.0%}" for share in usage.share.tolist()))
    return table


def subset_table(subsets: list[LayerSubset]) -> Table:
    """Size of tables of fewer layers, and the share of picks they would miss."""
    table = Table(title="tables of fewer layers", title_justify="left")
    for name in ("table", "encode.layers", "size", "picks missed", "at its worst step"):
        table.add_column(name, justify="left" if name in ("table", "encode.layers") else "right")
    for item in subsets:
        missed = (f"{share:.1%}" for share in (item.missed, item.missed_at_worst))
        table.add_row(item.name, str(list(item.states)), f"{item.size:.0%}", *missed)
    return table


def usage_tree(usage: LayerUsage, subsets: list[LayerSubset]) -> dict[str, object]:
    """Usage and subsets as plain values."""
    return {
        "layers": list(usage.layers),
        "timesteps": usage.timesteps.tolist(),
        "by_step": usage.by_step.tolist(),
        "tokens": list(usage.tokens),
        "by_token": usage.by_token.tolist(),
        "subsets": [asdict(item) | {"settings": item.settings} for item in subsets],
    }


if __name__ == "__main__":
    COMMAND.run(main)
