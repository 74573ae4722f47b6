#!/usr/bin/env python3
"""Encode: kept samples -> hidden states of every distinct caption, and latents of every image in its buckets.

Reads   tables/samples.lance, at the version the curate step recorded
Writes  tables/states/<tower>-<format>-<identity>.lance and tables/latents/<codec>.lance; only what they do not hold
        yet is encoded. A quantised format is calibrated first, unless a run of this tower and format has done so
        before (tables/calibrations); what it loses is reported, and refused beyond encode.quality. States of
        contexts that no stage reads from the table (stage.states) are left to those stages.

  python pipelines/encode.py
  python pipelines/encode.py pipelines/configs/photos.toml actors.max=8
  ray job submit --working-dir . -- pipelines/encode.py
"""

import sys
from argparse import Namespace
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="encode")

import ray.data
from ray.data import Dataset

from cluster.data import map_on_actors
from cluster.session import ray_session
from mos.checkout import CLONE
from mos.encoders.load import CodecSpec, TowerSpec, describe_codec, describe_tower
from mos.encoders.understanding import tower_id
from mos.errors import UserError
from mos.fingerprint import fingerprint
from mos.planning.sources import SourceName
from mos.states.calibration import Calibration
from mos.states.payload import StateCodec
from mos.states.quality import QualityReport, check_quality, total
from mos.tables.committer import Committer, latents_schema
from mos.tables.encode_plan import EncodePlan, Tasks, planned
from mos.tables.encode_tasks import cut_pieces, num_pieces
from mos.tables.expected import SortedKeys
from mos.tables.lance import TableVersion, create_table
from mos.tables.lost_files import drop_lost, refuse_lost_files
from mos.tables.payloads import REMEDY
from mos.tables.runs import register_run
from mos.tables.state_tables import agree_on_calibration, calibration_name, states_name, states_schema
from mos.tables.task_table import task_table
from operators.calibrate_states import CalibrateStates
from operators.encode_latents import EncodeLatents
from operators.encode_pieces import EncodePieces
from operators.encode_states import EncodeStates
from pipelines.cost.choose_source import choose_sources
from pipelines.run.config import RunConfig
from pipelines.run.states_table import current_codec
from pipelines.run.steps import Run
from pipelines.run.views import encoded_views, measured_views

Operator = type[EncodeStates] | type[EncodeLatents]


def main(run: Run, args: Namespace) -> None:
    """Encode what is missing, commit it, record both tables."""
    config = run.config
    step = run.step("encode")
    samples = TableVersion(**run.require("curate").outputs["samples"])
    config = config.model_copy(update={"encode": config.encode.anchored(CLONE)})
    record, codec = step.find(), describe_codec(config.encode.vae)
    names = tower_id(config.encode.tower), codec.codec_id
    replaced = record is not None and (record.outputs["tower_id"], record.outputs["codec_id"]) != names
    if step.already_finished(force=args.force or replaced):
        return
    tower = describe_tower(config.encode.tower)
    refuse_misfit(config, tower, codec)

    sources = choose_sources(config)
    views = encoded_views(config)
    with ExitStack() as stack:
        plan = stack.enter_context(plan_of(config, samples, tower, codec))
        cached = cached_contexts(config, sources, plan)
        state_codec = choose_codec(config, tower, samples, plan.contexts, stack)
        register_run(config.tables_folder(), config.root, config.name)
        states, latents = open_tables(config, tower, state_codec, codec, args.force)
        new_contexts, new_images = missing("states", cached, states), missing("latents", plan.latents, latents)
        if new_contexts.num_rows + new_images.num_rows:
            stack.enter_context(ray_session(config.cluster))
        quality = run_pool(config, samples, EncodeStates, new_contexts, states)
        run_pool(config, samples, EncodeLatents, new_images, latents)
        failures = states.failures | latents.failures
        report(failures, quality)
        refuse_lost(failures, (cached, states.table), (plan.latents, latents.table))
        sums = plan.sums(failures)
    made = {"states": states_name(tower.tower_id, state_codec), "codec": codec.codec_id}
    seen_by = {name: fingerprint(**made, keys=sums.of([name])) for name in views}
    step.finish(
        {
            "identity": fingerprint(**made, keys=sums.of(views)),
            "seen_by": seen_by | dict.fromkeys(("sample", "evaluate"), fingerprint(**made)),
            "states": asdict(states.table),
            "latents": asdict(latents.table),
            "encoded": {"states": states.num_committed, "latents": latents.num_committed},
            "failed": len(failures),
            "sources": sources,
            "samples": asdict(samples),
            "views": {name: asdict(view) for name, view in views.items()},
            "quality": None if quality is None else quality.lines(),
            **asdict(tower),
            **asdict(codec),
        }
    )


def refuse_misfit(config: RunConfig, tower: TowerSpec, codec: CodecSpec) -> None:
    """Raise `UserError` where tower, codec, buckets and model do not fit each other, before anything is spent."""
    model, curate = config.model, config.curate
    num_layers = tower.num_layers if model.routed_layers is None else model.state_layers
    pairs = (
        ("model.state_dim", model.state_dim, "the tower's width", tower.dim),
        ("model.state_layers", model.state_layers, "the tower's number of layers", num_layers),
        ("model.latent_channels", model.latent_channels, "the codec's channels", codec.channels),
        ("curate.token_px", curate.token_px, "codec stride times model.patch", codec.stride * model.patch),
    )
    for key, value, meaning, needed in pairs:
        if value != needed:
            raise UserError(f"{key} = {value}, but {meaning} is {needed}: set {key} = {needed}")
    lacking = sorted(set(model.hidden_states) - set(config.encode.held_layers(tower.num_layers)))
    if lacking:
        raise UserError(f"encode.layers lacks {lacking}, which the model reads: add them, or set model.routed_layers")
    for resolution in config.resolutions():
        if resolution not in curate.resolutions:
            raise UserError(
                f"a stage trains at resolution {resolution}, but curate.resolutions = {list(curate.resolutions)}: "
                "add it there and curate again"
            )


def plan_of(
    config: RunConfig, samples: TableVersion, tower: TowerSpec, codec: CodecSpec
) -> AbstractContextManager[EncodePlan]:
    """What the stages ask for; a stage's held-out half is a view of its own."""
    halves = {held_out_of(name): view for name, view in measured_views(config).items()}
    return planned(samples, encoded_views(config) | halves, tower.sees_images, codec.codec_id)


def held_out_of(name: str) -> str:
    """Name of the view of what a stage measures its held-out loss on."""
    return f"{name}, held out"


def cached_contexts(config: RunConfig, sources: dict[str, SourceName], plan: EncodePlan) -> Tasks:
    """Of all contexts those that some stage reads from the table; streams and towers in workers make their own but for
    what a held-out loss is measured on.
    """
    cached = [name for name, source in sources.items() if source == "cache"]
    if len(cached) == len(sources):
        return plan.contexts
    measured = [held_out_of(name) for name in measured_views(config) if name not in cached]
    if not cached and not measured:
        print("states: none to encode, no stage reads them from the table", flush=True)
        return plan.no_contexts
    return plan.contexts_of([*cached, *measured])


def choose_codec(
    config: RunConfig, tower: TowerSpec, samples: TableVersion, contexts: Tasks, stack: ExitStack
) -> StateCodec:
    """The codec of the states table: the one a run of this tower and format has settled, or a newly calibrated one."""
    encode = config.encode
    standing = current_codec(config, tower)
    if standing is not None:
        return standing
    stack.enter_context(ray_session(config.cluster))
    sample = contexts.by_key(encode.calibration_contexts)
    print(f"states: calibrating {encode.state_format} with {sample.num_rows} contexts", flush=True)
    rows = ray.data.from_items(sample.to_pylist(), override_num_blocks=1)
    actor = run_actors(config, CalibrateStates, rows, 1, (encode, samples, config.curate.image))
    (row,) = actor.take_all()
    if row["failure"]:
        raise UserError(f"not one of {sample.num_rows} contexts could be encoded: {row['failure']}")
    quality = QualityReport.from_json(row["quality"])
    check_quality(quality, encode.quality, encode.state_format)
    layers = encode.held_layers(tower.num_layers)
    learned = StateCodec(encode.state_format, layers, tower.dim, Calibration.from_bytes(row["calibration"]))
    uri = config.calibration_uri(calibration_name(tower.tower_id, encode.state_format, layers))
    return agree_on_calibration(uri, tower.tower_id, learned)


def open_tables(
    config: RunConfig, tower: TowerSpec, state_codec: StateCodec, codec: CodecSpec, drop: bool = False
) -> tuple[Committer, Committer]:
    """The states and the latents table, created if they are new, each with its committer.

    Rows whose files were lost are dropped where that is asked for, and refused where not.
    """
    uri = config.states_uri(states_name(tower.tower_id, state_codec))
    states = states_schema(tower.tower_id, state_codec)
    latents = latents_schema(codec.codec_id, codec.channels, codec.stride)
    every = config.encode.fragments_per_commit
    return (
        Committer(whole(create_table(uri, states), drop), every),
        Committer(whole(create_table(config.latents_uri(codec.codec_id), latents), drop), every),
    )


def whole(table: TableVersion, drop: bool) -> TableVersion:
    """A table that lacks no file; raises `LostFilesError` unless rows whose files were lost may be dropped."""
    if not drop:
        refuse_lost_files(table, REMEDY)
        return table
    left = drop_lost(table)
    if left.rows < table.rows:
        print(f"{table.uri}: {table.rows - left.rows} rows whose files were lost are encoded again", flush=True)
    return left


def missing(name: str, tasks: Tasks, committer: Committer) -> Tasks:
    """The tasks whose key the table does not hold, after committing what a killed run wrote into it."""
    recovered = committer.recover()
    if recovered:
        print(f"{name}: {recovered} rows that an earlier run wrote and did not commit", flush=True)
    todo = tasks.missing(committer.table)
    print(f"{name}: {todo.num_rows} rows to encode, {tasks.num_rows - todo.num_rows} already there", flush=True)
    return todo


def run_pool(
    config: RunConfig, samples: TableVersion, operator: Operator, tasks: Tasks, committer: Committer
) -> QualityReport | None:
    """Run the tasks through a pool of actors and commit the fragments they write; returns what the format lost."""
    if not tasks.num_rows:
        return None
    quality = None
    with TemporaryDirectory(prefix="mos-expected-") as folder:
        committer.expect_all(SortedKeys(Path(folder), tasks.sorted_keys()))
        for rows in run_pieces(config, samples, operator, tasks, committer.table.uri):
            fresh = [QualityReport.from_json(row["quality"]) for row in rows if row["quality"]]
            for one in fresh:
                check_quality(one, config.encode.quality, config.encode.state_format)
            committer.add(rows)
            quality = total([*fresh, *([] if quality is None else [quality])])
            print(f"{operator.__name__}: {committer.num_encoded}/{tasks.num_rows} rows", flush=True)
        committer.finish()
    return quality


def run_pieces(
    config: RunConfig, samples: TableVersion, operator: Operator, tasks: Tasks, uri: str
) -> Iterator[list[dict]]:
    """ENCODED rows, as a pool of actors writes the fragments of a table.

    The tasks go into a table of their own, from which each actor reads its piece; it goes with the work.
    """
    pieces = num_pieces(tasks.num_rows, config.encode.rows_per_fragment, config.encode.actors.max)
    places = [{"start": piece.start, "stop": piece.stop} for piece in cut_pieces(tasks.num_rows, pieces)]
    with task_table(config.tables_folder(), tasks.schema, tasks.in_order()) as table:
        rows = ray.data.from_items(places, override_num_blocks=pieces)
        arguments = (table, operator, config.encode, samples, uri, config.curate.image)
        manifests = run_actors(config, EncodePieces, rows, pieces, arguments)
        for batch in manifests.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield batch.to_pylist()


def run_actors(config: RunConfig, operator: type, rows: Dataset, pieces: int, arguments: tuple) -> Dataset:
    """Rows, in so many blocks, through a pool of actors that are each made with these arguments."""
    actors = config.encode.actors
    bounds = min(actors.min, pieces), min(actors.max, pieces)
    return map_on_actors(rows, operator, arguments, actors, bounds, key="encode.actors.min")


def refuse_lost(failures: Collection[str], *held: tuple[Tasks, TableVersion]) -> None:
    """Raise `UserError` where a row that this run found in a table or wrote has been removed since."""
    lost = sum(tasks.num_missing(table, failures) for tasks, table in held)
    if lost:
        raise UserError(f"{lost} rows were removed from the tables while this run was at work: start it again")


def report(failures: dict[str, str], quality: QualityReport | None) -> None:
    """Say what the format loses, and what could not be encoded: training leaves those samples out."""
    for line in quality.lines() if quality is not None else []:
        print(f"states: {line}", flush=True)
    for key, reason in list(failures.items())[:10]:
        print(f"not encoded: {key[:12]} ({reason})", flush=True)
    if failures:
        print(f"{len(failures)} rows could not be encoded and will be left out", flush=True)


if __name__ == "__main__":
    COMMAND.run(main)
