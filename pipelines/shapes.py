#!/usr/bin/env python3
"""Draw the demo data: captioned pictures of coloured shapes and edit triples, a few of them broken on purpose.

Reads   nothing
Writes  <root>/shards/pairs-*.tar, edits-*.tar   WebDataset shards
        <root>/shards/broken.json                key of every broken item -> what is wrong with it

The same [shapes] section always gives the same files.

    python pipelines/shapes.py
    python pipelines/shapes.py pipelines/configs/demo.toml num_scenes=500 broken_share=0.1
"""

import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="shapes")

from mos.errors import UserError
from mos.shapes.dataset import write_shards
from pipelines.run.steps import Run


def main(run: Run, args: Namespace) -> None:
    """Write the shards unless they are there."""
    config = run.config
    step = run.step("shapes")
    if step.already_finished(args.force):
        return
    if config.shapes is None:
        raise UserError(f"config {config.name!r} has no [shapes] section: add one, or skip this step")
    folder = config.folder("shards")
    print(f"shapes: drawing {config.shapes.num_scenes} scenes and {config.shapes.num_edits} edits into {folder}")
    counts = write_shards(config.shapes, folder, _show_progress)
    step.finish({"folder": str(folder), **asdict(counts)})
    broken = sum(counts.broken.values())
    print(
        f"shapes: {counts.pairs} pairs and {counts.edits} edits in {counts.shards} shards, "
        f"{counts.bytes / 2**20:.1f} MiB; {broken} items are broken in {len(counts.broken)} ways"
    )


def _show_progress(done: int, total: int) -> None:
    print(f"shapes: {done}/{total}", flush=True)


if __name__ == "__main__":
    COMMAND.run(main)
