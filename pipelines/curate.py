#!/usr/bin/env python3
"""Curate: raw shards and folders -> kept samples with every score, and the rejects with their reasons.

Reads   the sources of the config's [curate] section
Writes  tables/samples.lance and tables/rejects.lance; new shards only add rows, finished ones are not read again

  python pipelines/curate.py
  python pipelines/curate.py pipelines/configs/photos.toml curate.duplicates.near_bits=3
  python pipelines/curate.py --dry-run          # counts and buckets of every stage's view; writes nothing
  ray job submit --working-dir . -- pipelines/curate.py
"""

import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

DRY_RUN = "print what every stage would train on, and write nothing"
COMMAND = Command(__name__, __doc__, section="curate", flags={"--dry-run": DRY_RUN})

import lance
import pyarrow as pa

from cluster.session import ray_session
from mos.checkout import CLONE
from mos.curation.manifest import compact, count_reasons, drop_copies, join, rejects_of, split_notices
from mos.curation.progress import Progress, print_result, print_views
from mos.curation.sources import Unit, list_units
from mos.curation.tables import Curated, add_marks, count_buckets, open_sample_tables
from mos.ledger import StepRecord
from mos.tables.views import count_view
from operators.curate import Sink, curation
from operators.drop_images import DropImages
from operators.write_samples import WriteSamples
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.run.views import view_of


def main(run: Run, args: Namespace) -> None:
    """Read what is new, commit it, record both tables."""
    config = run.config
    step = run.step("curate")
    record = step.find()
    if args.dry_run:
        dry_run(config, record)
        return
    if step.already_finished(args.force):
        return
    units = list_units(config.curate.sources, CLONE, config.curate.files_per_unit)
    ids, settings = [unit.id for unit in units], config.curate.settings_id()
    base = None if args.force else latest(step.ledger.latest("curate"), settings, ids, config.samples_uri())
    new = [unit for unit in units if base is None or unit.id not in set(base.units)]
    print(f"curate: {len(units)} units, {len(units) - len(new)} of them finished before", flush=True)

    tables = open_sample_tables(config.samples_uri(), config.rejects_uri(), config.curate.resolutions, base)
    marks, notices = stream(config, new, WriteSamples(config.samples_uri(), config.curate.resolutions).__call__)
    near_bits = config.curate.duplicates.near_bits
    marks = drop_copies(marks, list(tables.kept_marks(near_bits)), near_bits)
    curated = add_marks(tables, marks, ids, settings, notices)
    step.finish(curated.outputs())
    print_result(curated.read, curated.kept, curated.rejected, curated.buckets, curated.notices)


def latest(record: StepRecord | None, settings: str, units: Sequence[str], uri: str) -> Curated | None:
    """What the last finished run left, if this run only adds to it."""
    curated = None if record is None else Curated.from_outputs(record.outputs)
    return curated if curated and curated.can_grow_into(settings, units, uri) else None


def stream(config: RunConfig, units: Sequence[Unit], sink: Sink) -> tuple[pa.Table, dict[str, int]]:
    """Stream the units through the operators; the last operator's rows in the order of the sources, and the notices."""
    progress = Progress(len(units))
    parts = []
    with ray_session(config.cluster):
        dataset = curation(config.curate, units, sink)
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            progress.advance(batch)
            parts.append(compact(batch))
    progress.close()
    return split_notices(join(parts))


def dry_run(config: RunConfig, record: StepRecord | None) -> None:
    """Print counts and buckets of every stage's view: of the finished table, or of what curation would keep."""
    views = {name: view_of(config, name) for name in config.stages()}
    if record is not None:
        samples = Curated.from_outputs(record.outputs).samples.open()
        print_views({name: count_view(samples, view) for name, view in views.items()})
        return
    units = list_units(config.curate.sources, CLONE, config.curate.files_per_unit)
    marks, notices = stream(config, units, DropImages().__call__)
    marks = drop_copies(marks, [], config.curate.duplicates.near_bits)
    rejects = rejects_of(marks)
    kept = marks.filter(marks.column("reason").is_null())
    with tempfile.TemporaryDirectory() as folder:
        samples = lance.write_dataset(kept, f"{folder}/samples.lance")
        counts = {name: count_view(samples, view) for name, view in views.items()}
        buckets = count_buckets(samples)
    print_result(marks.num_rows, kept.num_rows, count_reasons(rejects), buckets, notices)
    print_views(counts)


if __name__ == "__main__":
    COMMAND.run(main)
