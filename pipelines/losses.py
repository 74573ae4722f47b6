#!/usr/bin/env python3
"""Losses: a finished stage -> its loss on every sample of its view, as a column that filters may name.

Reads   the export of the stage, tables/samples.lance, and the states and latents it was trained on
Writes  a version of tables/samples.lance with the column loss_<stage>, as the version before in all else;
        losses/<stage>/: what is measured so far, and losses.png with the hardest and the easiest samples

The loss is that of the averaged weights (paper eq. 1), at timesteps and noises that are the same for all samples and
whenever it is measured. A stage behind it may choose by it: filter = "loss_stage1 < 0.8"; one that was not measured is
null and passes no such filter. A job that was stopped goes on. A stage that is trained anew, or longer, is measured
anew; stages that began with the earlier column keep it.

  python pipelines/losses.py                          the last finished stage
  python pipelines/losses.py my.toml stage=stage1 num_timesteps=16
  python pipelines/losses.py my.toml --dry-run        how many samples there are to measure; writes nothing
  ray job submit --working-dir . -- pipelines/losses.py my.toml
"""

import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

DRY_RUN = "print how many samples there are to measure, and write nothing"
COMMAND = Command(__name__, __doc__, section="losses", flags={"--dry-run": DRY_RUN})

from rich.console import Console
from rich.table import Table

from mos.errors import UserError
from mos.loader.index import SampleIndex
from mos.losses.summary import QUANTILES
from pipelines.run.steps import Run
from pipelines.train.losses import StageLosses, measure_losses, tasks_of


def main(run: Run, args: Namespace) -> None:
    """Measure, write the column, show what came of it."""
    losses = StageLosses(run, stage_to_measure(run))
    if args.dry_run:
        dry_run(losses)
        return
    finished = losses.find() is not None and not args.force
    record = measure_losses(losses, force=args.force)
    if finished:
        print(f"losses: already finished ({losses.step.short}, took {record.seconds:.0f} s)", flush=True)
    outputs = record.outputs
    Console(width=100).print(spread_table(outputs))
    for reason, count in outputs["left_out"].items():
        print(f"losses: {count} samples left out: {reason}", flush=True)
    print(
        f"losses: {outputs['column']} stands in version {outputs['samples']['version']} of "
        f"{outputs['samples']['uri']}; the hardest and the easiest samples are in {outputs['picture']}",
        flush=True,
    )


def stage_to_measure(run: Run) -> str:
    """The stage that is named, or the last finished one."""
    named = run.config.losses.stage
    if named is not None:
        run.config.stage(named)
        return named
    finished = [stage for stage in run.config.stages() if run.is_finished(stage)]
    if not finished:
        raise UserError(f"config {run.config.name!r} has no finished stage: run `python pipelines/stage1.py` first")
    return finished[-1]


def dry_run(losses: StageLosses) -> None:
    """Say what there is to do."""
    with TemporaryDirectory() as folder:
        _describe(losses, losses.index(Path(folder)))


def _describe(losses: StageLosses, index: SampleIndex) -> None:
    todo = len(tasks_of(index, losses.parts.read())) if losses.find() is None else 0
    lacking = f", {index.num_left_out} without encodings left out" if index.num_left_out else ""
    print(
        f"losses: of {losses.stage} on {len(index)} samples{lacking}, by source {index.counts('source')}; {todo} of "
        f"them are to be measured, at {losses.run.config.losses.num_timesteps} timesteps each",
        flush=True,
    )


def spread_table(outputs: dict[str, Any]) -> Table:
    """Losses by source."""
    table = Table(title=f"{outputs['column']} by source", title_justify="left")
    for name in ("source", "samples", "mean", *(f"{share:.0%} below" for share in QUANTILES)):
        table.add_column(name, justify="left" if name == "source" else "right")
    rows = outputs["by_source"] | ({} if outputs["every"] is None else {"all": outputs["every"]})
    for name, spread in rows.items():
        values = (f"{value:.4f}" for value in (spread["mean"], *spread["quantiles"]))
        table.add_row(name, str(spread["num"]), *values)
    return table


if __name__ == "__main__":
    COMMAND.run(main)
