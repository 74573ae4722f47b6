#!/usr/bin/env python3
"""Plan: what a run's hidden states weigh and cost, cached, streamed or recomputed, before anything is spent.

Reads   the config; tables/samples.lance and tables/states/<tower>.lance where they stand
Writes  plan.json, beside the run where it has a folder, else in runs/plans; with --needs a table beside it, *-needs.md

  python pipelines/plan.py
  python pipelines/plan.py pipelines/configs/mos_l.toml max_table_gb=200_000
  python pipelines/plan.py pipelines/configs/mos_s.toml --needs
  python pipelines/plan.py --measure            # speeds of this machine: a few forwards, training steps and reads
  python pipelines/plan.py pipelines/configs/mos_s.toml machine.type=gpu machine.encode_hour=0.9
"""

import json
import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

MEASURE = "measure the speeds of this machine first, with the run's own tower, model and table"
NEEDS = "find the memory, disk, network and hours of every stage, too: some seconds for each; writes <plan>-needs.md"
COMMAND = Command(__name__, __doc__, section="plan", flags={"--measure": MEASURE, "--needs": NEEDS})

from rich.console import Console

from mos.checkout import CLONE
from mos.errors import UserError
from mos.planning.recommend import recommend
from pipelines.cost.figures import limits_of, stage_figures
from pipelines.cost.page import plan_tree, print_plan
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run

WIDTH = 160
"""Columns where the output is no terminal."""


def main(run: Run, args: Namespace) -> None:
    """Ask the cost model, print, keep the answer."""
    config = run.config
    machine = config.plan.machine_for(config.cluster.train.gpus)
    if args.measure:
        from pipelines.cost.measure import measure_machine

        machine = measure_machine(config, machine)
    figures = {name: stage_figures(config, name) for name in config.stages()}
    if not figures:
        raise UserError(f"config {config.name!r} has no training stage: add [stage1]")
    recommended = recommend([stage.load for stage in figures.values()], machine, limits_of(config))
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    print_plan(config, machine, figures, recommended, console)
    path = plan_path(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    if args.needs:
        from pipelines.cost.needs import needs_markdown, needs_table, stage_needs

        needs = stage_needs(config, figures, recommended)
        console.print(needs_table(needs))
        path.with_name(f"{path.stem}-needs.md").write_text(needs_markdown(needs), encoding="utf-8")
    tree = plan_tree(config, machine, figures, recommended)
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    print(f"plan: {path}", flush=True)


def plan_path(config: RunConfig) -> Path:
    """Path of the JSON: a plan is also made for a cluster whose folders do not stand here."""
    root = Path(config.root)
    return root / "plan.json" if root.is_dir() else CLONE / "runs" / "plans" / f"{config.name}.json"


if __name__ == "__main__":
    COMMAND.run(main)
