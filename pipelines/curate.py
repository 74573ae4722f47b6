#!/usr/bin/env python3
"""Curate: raw shards and folders -> kept samples with every score, and the rejects with their reasons.

Reads   the sources of the config's [curate] section
Writes  tables/samples.lance and tables/rejects.lance; new shards only add rows, finished ones are not read again

  python pipelines/curate.py
  python pipelines/curate.py pipelines/configs/photos.toml curate.duplicates.near_bits=3
  python pipelines/curate.py --dry-run          # counts and buckets of every stage's view; writes nothing
  ray job submit --working-dir . -- pipelines/curate.py
"""

import logging
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

DRY_RUN = "print what every stage would train on, and write nothing"
COMMAND = Command(__name__, __doc__, section="curate", flags={"--dry-run": DRY_RUN})

import lance
import pyarrow as pa
import ray
from ray.data import Dataset

from cluster.data import map_on_actors
from cluster.session import ray_session
from mos.checkout import CLONE
from mos.curation.config import CurateConfig, ScorerConfig
from mos.curation.manifest import Manifest, light_schema, manifest_of, marks_schema
from mos.curation.progress import Progress, print_result, print_views
from mos.curation.sources import Unit, deal_units, list_units
from mos.curation.tables import CurationOutputs, add_marks, open_sample_tables
from mos.images.decode import ImageLimits
from mos.ledger import StepRecord
from mos.tables.views import count_view
from operators.assign_bucket import AssignBucket
from operators.decode_image import DecodeImage
from operators.drop_images import DropImages
from operators.measure_image import MeasureImage
from operators.read_shards import ReadShards
from operators.score_aesthetic import ScoreAesthetic
from operators.score_alignment import ScoreAlignment
from operators.write_samples import WriteSamples
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.run.views import view_before_losses

TASKS_PER_CORE = 3
"""Ray Data looks for finished tasks ten times a second, so many short ones leave cores waiting; few long ones end
unevenly."""

Sink = Callable[[pa.Table], pa.Table]


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
    with manifest_of(marks_schema(config.curate.resolutions)) as marks:
        stream(config, new, WriteSamples(config.samples_uri(), config.curate.resolutions).__call__, marks)
        marks.refuse_copies(tables.kept, config.curate.duplicates.near_bits)
        curated = add_marks(tables, marks, ids, settings)
    step.finish(curated.outputs())
    print_result(curated.read, curated.kept, curated.rejected, curated.buckets, curated.notices)


def latest(record: StepRecord | None, settings: str, units: Sequence[str], uri: str) -> CurationOutputs | None:
    """Tables of the last finished run, if this run only adds to them."""
    curated = None if record is None else CurationOutputs.from_outputs(record.outputs)
    return curated if curated and curated.can_grow_into(settings, units, uri) else None


def stream(config: RunConfig, units: Sequence[Unit], sink: Sink, marks: Manifest) -> None:
    """Stream the units through the operators; the last operator's rows become the marks."""
    progress = Progress(len(units))
    with ray_session(config.cluster):
        dataset = curation(config.curate, units, sink)
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            progress.advance(batch)
            marks.add(batch)
    progress.close()


def curation(config: CurateConfig, units: Sequence[Unit], sink: Sink) -> Dataset:
    """Units -> marks. Without scorers all operators fuse into one task a share; nothing runs until it is iterated.

    Args:
        config: limits, buckets, scorers.
        units: what to read.
        sink: last operator: that of `WriteSamples`, or of `DropImages` to look without writing.
    """
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    shares = deal_units(units, num_tasks(units, config))
    rows = ray.data.from_arrow([_table(share) for share in shares or [[]]])
    # Between fused operators Ray gathers rows up to this size: it bounds a task's memory and is a fragment's size.
    rows.context.target_max_block_size = config.fragment_mb * 2**20
    # Without scorers only marks leave a task. Ray, which expects a full block of each, would start one task where the
    # object store is small, and the others when the first has ended.
    rows.context.op_resource_reservation_enabled = config.aesthetic is not None or config.alignment is not None
    rows = rows.map_batches(ReadShards(config).__call__, batch_size=1, batch_format="pyarrow")
    rows = _apply(rows, DecodeImage(config.image).__call__)
    rows = _apply(rows, MeasureImage().__call__)
    if config.aesthetic is not None:
        rows = _score(rows, ScoreAesthetic, config.aesthetic, config.image, "curate.aesthetic.actors.num")
    if config.alignment is not None:
        rows = _score(rows, ScoreAlignment, config.alignment, config.image, "curate.alignment.actors.num")
    rows = _apply(rows, AssignBucket(config.buckets(), config.max_upscale).__call__)
    return _apply(rows, sink)


def num_tasks(units: Sequence[Unit], config: CurateConfig) -> int:
    """Tasks enough for every core to have several, and none of more than a fragment's bytes where units allow it."""
    total = sum(unit.num_bytes for unit in units)
    cores = int(ray.cluster_resources().get("CPU", 1))
    return max(TASKS_PER_CORE * cores, -(-total // (config.fragment_mb * 2**20)))


def _table(units: Sequence[Unit]) -> pa.Table:
    return pa.table({"unit": pa.array([unit.to_json() for unit in units], pa.string())})


def _apply(rows: Dataset, operator: Sink) -> Dataset:
    """A stateless operator: a bound method, so that Ray pickles it with its config and runs it in fused tasks."""
    return rows.map_batches(operator, batch_size=None, batch_format="pyarrow")


def _score(
    rows: Dataset,
    scorer: type[ScoreAesthetic] | type[ScoreAlignment],
    config: ScorerConfig,
    limits: ImageLimits,
    key: str,
) -> Dataset:
    """An operator with a model: a fixed number of actors, because a growing pool starves devices at the start."""
    actors = config.actors
    return map_on_actors(
        rows, scorer, (config, limits), actors, (actors.num, actors.num), key=key, batch_size=config.batch_size
    )


def dry_run(config: RunConfig, record: StepRecord | None) -> None:
    """Print counts and buckets of every stage's view: of the finished table, or of what curation would keep."""
    views = {name: view_before_losses(config, name) for name in config.stages()}
    if record is not None:
        samples = CurationOutputs.from_outputs(record.outputs).samples.open()
        print_views({name: count_view(samples, view) for name, view in views.items()})
        return
    units = list_units(config.curate.sources, CLONE, config.curate.files_per_unit)
    resolutions = config.curate.resolutions
    with manifest_of(light_schema(resolutions)) as marks, tempfile.TemporaryDirectory() as folder:
        stream(config, units, DropImages(resolutions).__call__, marks)
        marks.refuse_copies(None, config.curate.duplicates.near_bits)
        samples = lance.write_dataset(marks.items("reason IS NULL"), f"{folder}/samples.lance")
        print_result(marks.num_items, marks.num_kept, marks.reasons(), marks.buckets(), marks.notices)
        print_views({name: count_view(samples, view) for name, view in views.items()})


if __name__ == "__main__":
    COMMAND.run(main)
