#!/usr/bin/env python3
"""Export: a view of the samples table -> WebDataset shards or Parquet, for other trainers and for curation again.

Reads   tables/samples.lance at the version of the last finished curation
Writes  exports/<format>/: webdataset: <source>-*.tar, <source>.json (index in wids' format with the sha256 of each
        shard), sources.toml (the [[curate.sources]] that read them); parquet: data/train-*.parquet, README.md, as
        datasets.load_dataset loads it

A shard is there whole or not at all, and a job that was stopped goes on with the others. A folder holds one export:
another view, or the samples of a newer curation, want another folder, or --force.

  python pipelines/export.py my.toml                                      every sample
  python pipelines/export.py my.toml stage=stage1                         what a stage trains on
  python pipelines/export.py my.toml "filter=aesthetic > 5 AND width >= 1024" path=/data/best
  python pipelines/export.py my.toml format=parquet samples_per_shard=5000
  python pipelines/export.py my.toml --dry-run                            what would be written; writes nothing
  ray job submit --working-dir . -- pipelines/export.py my.toml
"""

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

DRY_RUN = "print what would be written, and write nothing"
COMMAND = Command(__name__, __doc__, section="export", flags={"--dry-run": DRY_RUN})

from dataclasses import asdict, dataclass

import pyarrow as pa
import ray

from cluster.session import ray_session
from mos.checkout import CLONE
from mos.errors import UserError
from mos.exports.config import ExportFormat
from mos.exports.folder import SOURCES, ExportFolder
from mos.exports.plan import SHARDS, Shard, plan_shards
from mos.losses.names import loss_column, stages_named
from mos.tables.lance import TableVersion
from mos.tables.views import check_filter
from operators.export_shards import ExportShards
from pipelines.run.config import RunConfig
from pipelines.run.steps import LOSSES, Run
from pipelines.run.views import view_of

TELL_EVERY_S = 2.0


@dataclass(frozen=True)
class Export:
    """What is to be written, and where to."""

    samples: TableVersion
    where: str
    """SQL of the view; empty: every row."""
    shards: list[Shard]
    format: ExportFormat
    folder: ExportFolder
    about: dict[str, Any]
    """What decides the bytes of the files."""

    @property
    def num(self) -> int:
        """Samples."""
        return sum(shard.num for shard in self.shards)


def main(run: Run, args: Namespace) -> None:
    """Plan, write what is not there, tell others about it."""
    export = plan(run)
    if args.dry_run:
        dry_run(export, args.force)
        return
    export.folder.claim(export.about, replace=args.force)
    todo = export.folder.missing(export.shards)
    print(f"export: {describe(export)}, {len(export.shards) - len(todo)} of them finished before", flush=True)
    if todo:
        with ray_session(run.config.cluster):
            write(export, todo)
    written = export.folder.finish(export.format, export.shards)
    size = sum(shard.num_bytes for shard in written)
    print(f"export: {export.num} samples, {_shards(len(written))}, {size / 2**20:.1f} MiB in {export.folder.path}")
    if export.format == "webdataset":
        print(f"export: the [[curate.sources]] that read them are in {export.folder.path / SOURCES}", flush=True)


def plan(run: Run) -> Export:
    """The shards of the view that the config names.

    Raises:
        UserError: nothing is curated, the filter is refused, or nothing passes it.
    """
    settings = run.config.export
    curated = run.require("curate").outputs
    where = view(run.config)
    samples = with_losses(run, TableVersion(**curated["samples"]), stages_named(where))
    if settings.stage is not None:
        check_filter(samples.open(), view_of(run.config, settings.stage))
    shards = plan_shards(samples, where, settings.format, settings.samples_per_shard)
    if not shards:
        raise UserError(f"no sample of {samples.uri} passes {where or 'curation'!r}: relax export.filter")
    about = {
        "format": settings.format,
        "view": where or "every sample",
        "samples": {"uri": samples.uri, "version": samples.version, "identity": curated["identity"]},
        "samples_per_shard": settings.samples_per_shard,
    }
    path = settings.path or str(run.config.folder("exports", settings.format))
    return Export(samples, where, shards, settings.format, ExportFolder(CLONE / Path(path).expanduser()), about)


def view(config: RunConfig) -> str:
    """SQL of the samples that leave: the stage's and the filter's; empty: all."""
    settings = config.export
    clauses = [] if settings.stage is None else [view_of(config, settings.stage).predicate()]
    if settings.filter.strip():
        clauses.append(f"({settings.filter})")
    return " AND ".join(clauses)


def with_losses(run: Run, samples: TableVersion, stages: Sequence[str]) -> TableVersion:
    """The samples with the columns of losses that a view names; as they are where it names none.

    Raises:
        UserError: one of them is not measured.
    """
    if not stages:
        return samples
    wanted = {loss_column(stage): run.losses(stage).fingerprint for stage in stages}
    for record in sorted(run.ledger.records(LOSSES), key=lambda record: record.finished_at, reverse=True):
        if record.outputs["base"] == asdict(samples) and wanted.items() <= record.outputs["columns"].items():
            return TableVersion(**record.outputs["samples"])
    commands = " and ".join(f"`python pipelines/losses.py <config> stage={stage}`" for stage in stages)
    raise UserError(f"no version of {samples.uri} has {', '.join(wanted)} for this config: run {commands} first")


def write(export: Export, todo: Sequence[Shard]) -> None:
    """Write some shards, one task each."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    operator = ExportShards(export.samples, export.where, export.format, export.folder.path)
    rows = ray.data.from_arrow([pa.Table.from_pylist([asdict(shard)], SHARDS) for shard in todo])
    done = rows.map_batches(operator.__call__, batch_size=None, batch_format="pyarrow")
    progress = Progress(len(todo), sum(shard.num for shard in todo))
    for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
        progress.advance(batch)
    progress.close()


def dry_run(export: Export, force: bool) -> None:
    """Say what there is to do."""
    export.folder.check(export.about, replace=force)
    todo = export.shards if force else export.folder.missing(export.shards)
    print(f"export: {describe(export)}, {len(todo)} of them to be written to {export.folder.path}", flush=True)


def describe(export: Export) -> str:
    """What leaves, in words."""
    view = f"that pass {export.where}" if export.where else "in all"
    by_source: dict[str, int] = {}
    for shard in export.shards:
        if shard.source:
            by_source[shard.source] = by_source.get(shard.source, 0) + shard.num
    sources = f", by source {by_source}" if by_source else ""
    return f"{export.num} samples {view}{sources}; {_shards(len(export.shards))} of {export.format}"


def _shards(num: int) -> str:
    return f"{num} shard{'s' * (num != 1)}"


class Progress:
    """Counts shards as they come back and prints a line every two seconds."""

    def __init__(self, num_shards: int, num: int) -> None:
        self._num_shards, self._num = num_shards, num
        self._shards = self._done = self._bytes = 0
        self._started_at = self._printed_at = time.monotonic()

    def advance(self, batch: pa.Table) -> None:
        """Count what `ExportShards` returned."""
        for shard in batch.to_pylist():
            self._shards += 1
            self._done += shard["num"]
            self._bytes += shard["num_bytes"]
        if time.monotonic() - self._printed_at >= TELL_EVERY_S:
            self._print()

    def close(self) -> None:
        """Print the last line."""
        self._print()

    def _print(self) -> None:
        self._printed_at = time.monotonic()
        rate = self._done / max(1e-9, self._printed_at - self._started_at)
        left = f", {(self._num - self._done) / rate:.0f} s left" if 0 < self._done < self._num else ""
        print(
            f"export: {self._shards}/{self._num_shards} shards, {self._done}/{self._num} samples, "
            f"{self._bytes / 2**20:.1f} MiB, {rate:.0f} samples/s{left}",
            flush=True,
        )


if __name__ == "__main__":
    COMMAND.run(main)
