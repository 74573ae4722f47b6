#!/usr/bin/env python3
"""Tables: what stands in the run's tables folder, who uses it, whether it still is what the encoders give.

Reads   tables/states, tables/latents, tables/users and the records of the registered runs
Writes  nothing, unless asked to compact or to remove

  python pipelines/tables.py                                list all tables
  python pipelines/tables.py photos.toml --verify           encode a sample of this run's rows again and compare
  python pipelines/tables.py photos.toml --compact          merge small fragments
  python pipelines/tables.py photos.toml --remove           say what no run needs
  python pipelines/tables.py photos.toml --remove --yes     and remove it
"""

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

FLAGS = {
    "--verify": "encode a sample of this run's rows again and report the drift",
    "--compact": "merge small fragments of every table but the queues",
    "--remove": "say which tables, rows and versions no registered run needs",
    "--yes": "with --remove: remove them",
    "--now": "with --remove: also from tables that changed within a week; be sure that no run is at work",
}
COMMAND = Command(__name__, __doc__, flags=FLAGS)

from rich.console import Console
from rich.table import Table

from mos.checkout import CLONE
from mos.feeding.progress import StreamProgress
from mos.tables.inventory import TableSummary, list_tables
from mos.tables.payloads import REMEDY
from mos.tables.removal import MARGIN_S, compact, plan_removal, remove
from mos.tables.runs import RegisteredRun, read_run, read_runs, run_id
from operators.verify_rows import verify_rows
from pipelines.run.steps import Run
from pipelines.train.lock import is_locked

FRESH_S = 3600.0
"""A rank reports once a window."""


def main(run: Run, args: Namespace) -> None:
    """List, then do what was asked."""
    config = run.config
    folder = config.tables_folder()
    users = read_runs(folder)
    if config.root not in [user.root for user in users] and Path(config.root).is_dir():
        users.append(read_run(config.name, config.root))
    tables = list_tables(folder, users)
    print_tables(tables, users)
    if args.verify:
        encode = run.require("encode").outputs
        for drift in verify_rows(encode, config.encode.anchored(CLONE), config.curate.image):
            print(drift.describe(), flush=True)
    if args.compact:
        for table in tables:
            if table.kind == "queues" or refused_as_damaged(table):
                continue  # a stage that reads and drops its rows would be in the way
            before, after = compact(table.uri, config.encode.rows_per_fragment)
            print(f"{table.uri}: {before} fragments are {after} now", flush=True)
    if args.remove:
        remove_unused(tables, users, 0 if args.now else MARGIN_S, args.yes)


def print_tables(tables: Sequence[TableSummary], users: Sequence[RegisteredRun]) -> None:
    """One line for each table and each registered run."""
    columns = ("table", "rows", "MB", "encoder", "format", "fragments", "versions", "users")
    shown = Table(*columns, title="encoded tables")
    for table in tables:
        shown.add_row(
            f"{table.kind}/{table.uri.rsplit('/', 1)[-1]}",
            f"{table.rows:,}",
            f"{table.num_bytes / 1e6:,.1f}",
            table.encoder,
            table.format + (" (damaged)" if table.is_damaged else ""),
            str(table.num_fragments),
            str(len(table.versions)),
            ", ".join(table.users) or "none",
        )
    Console(width=160).print(shown)
    for user in users:
        records = "its records cannot be read from here" if user.encodings is None else f"{len(user.encodings)} records"
        print(f"run {user.name!r} in {user.root}: {records}", flush=True)


def remove_unused(
    tables: Sequence[TableSummary], users: Sequence[RegisteredRun], margin_s: float, confirmed: bool
) -> None:
    """Say what would go; do it where that was confirmed."""
    for table in tables:
        if refused_as_damaged(table):
            continue
        if table.kind == "queues" and in_use(table, users):
            print(f"keeping {table.uri}: a stage is being trained through it", flush=True)
            continue
        removal = plan_removal(table, users, margin_s)
        print(("removing " if confirmed else "would remove ") + removal.describe(), flush=True)
        if confirmed and not removal.is_empty:
            remove(removal)
    if not confirmed:
        print("nothing was removed: add --yes to do it", flush=True)


def refused_as_damaged(table: TableSummary) -> bool:
    """True if a table has lost files and is left alone, which is said."""
    if table.is_damaged:
        print(f"keeping {table.uri}: it has lost files, {REMEDY}", flush=True)
    return table.is_damaged


def in_use(queue: TableSummary, users: Sequence[RegisteredRun]) -> bool:
    """True if a stage streams through a queue now: a driver holds its lock, or a rank has reported of late."""
    match queue.uri.rpartition("/")[2].removesuffix(".lance").split("-"):
        case [stage, short, run]:
            folders = [Path(user.root, "checkpoints", stage, short) for user in users if run_id(user.root) == run]
        case _:
            return False
    now = time.time()
    return any(
        is_locked(folder) or now - StreamProgress(folder / "stream").reported_at() < FRESH_S for folder in folders
    )


if __name__ == "__main__":
    COMMAND.run(main)
