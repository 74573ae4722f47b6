"""The chain of curation operators as one lazy dataset."""

import logging
from collections.abc import Callable, Sequence

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from mos.curation.config import CurateConfig, ScorerConfig
from mos.curation.sources import Unit, deal_units
from mos.images.decode import ImageLimits
from operators.assign_bucket import AssignBucket
from operators.decode_image import DecodeImage
from operators.measure_image import MeasureImage
from operators.read_shards import ReadShards
from operators.score_aesthetic import ScoreAesthetic
from operators.score_alignment import ScoreAlignment

TASKS_PER_CORE = 3
"""Ray Data looks for finished tasks ten times a second, so many short ones leave cores waiting; few long ones end
unevenly."""

Sink = Callable[[pa.Table], pa.Table]


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
        rows = _score(rows, ScoreAesthetic, config.aesthetic, config.image)
    if config.alignment is not None:
        rows = _score(rows, ScoreAlignment, config.alignment, config.image)
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
    rows: Dataset, scorer: type[ScoreAesthetic] | type[ScoreAlignment], config: ScorerConfig, limits: ImageLimits
) -> Dataset:
    """An operator with a model: a fixed pool of actors, because a growing one starves devices at the start."""
    return rows.map_batches(
        scorer,
        fn_constructor_args=(config, limits),
        batch_size=config.batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=config.num_actors),
        num_gpus=config.gpus_per_actor or None,
    )
