"""Encode: kept samples -> hidden states of every distinct caption, and latents of every image in its buckets.

Reads   tables/samples.lance, at the version the curate step recorded
Writes  tables/states/<tower>.lance and tables/latents/<codec>.lance; only what they do not hold yet is encoded

  python pipelines/encode.py
  python pipelines/encode.py pipelines/configs/photos.toml actors.max_actors=8
  ray job submit --working-dir . -- python pipelines/encode.py
"""

import sys
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import ray.data

from cluster.session import CLONE, ray_session
from mos.data.encode_plan import keep_missing, num_pieces, plan_contexts, plan_latents
from mos.data.encoded import Committer, latents_schema, states_schema
from mos.encoders.understanding import TowerSpec, describe_tower, tower_id
from mos.encoders.vae import CodecSpec, describe_codec
from mos.errors import UserError
from mos.fingerprint import fingerprint
from mos.tables import TableVersion, create_table, read_column
from operators.encode_latents import EncodeLatents
from operators.encode_states import EncodeStates
from pipelines.entry import entry
from pipelines.run_config import RunConfig
from pipelines.steps import open_step, require_step

Operator = type[EncodeStates] | type[EncodeLatents]


def main(config: RunConfig, args: Namespace) -> None:
    """Encode what is missing, commit it, record both tables."""
    step = open_step("encode", config)
    samples = TableVersion(**require_step("curate", config).outputs["samples"])
    config = config.model_copy(update={"encode": config.encode.anchored(CLONE)})
    record = step.find()
    replaced = record is not None and record.outputs["tower_id"] != tower_id(config.encode.tower)
    if step.already_finished(force=args.force or replaced):
        return
    tower, codec = describe_tower(config.encode.tower), describe_codec(config.encode.vae)
    refuse_misfit(config, tower, codec)

    contexts = plan_contexts(samples, config.resolutions(), tower.sees_images)
    images = plan_latents(samples, config.resolutions(), codec.codec_id)
    states, latents = open_tables(config, tower, codec)
    new_contexts, new_images = missing("states", contexts, states), missing("latents", images, latents)
    with ray_session(config.cluster) if new_contexts.num_rows + new_images.num_rows else nullcontext():
        run_pool(config, samples, EncodeStates, new_contexts, states)
        run_pool(config, samples, EncodeLatents, new_images, latents)
    failures = states.failures | latents.failures
    report(failures)
    keys = {*contexts.column(0).to_pylist(), *images.column(0).to_pylist()} - failures.keys()
    made = {"tower": tower.tower_id, "format": config.encode.state_format, "codec": codec.codec_id}
    step.finish(
        {
            "identity": fingerprint(**made, keys=sorted(keys)),
            "states": asdict(states.table),
            "latents": asdict(latents.table),
            "encoded": {"states": states.num_committed, "latents": latents.num_committed},
            "failed": len(failures),
            **asdict(tower),
            **asdict(codec),
        }
    )


def refuse_misfit(config: RunConfig, tower: TowerSpec, codec: CodecSpec) -> None:
    """Raise `UserError` where tower, codec, buckets and model do not fit each other, before anything is spent."""
    model, curate = config.model, config.curate
    pairs = (
        ("model.state_dim", model.state_dim, "the tower's width", tower.dim),
        ("model.state_layers", model.state_layers, "the tower's number of layers", tower.num_layers),
        ("model.latent_channels", model.latent_channels, "the codec's channels", codec.channels),
        ("curate.token_px", curate.token_px, "codec stride times model.patch", codec.stride * model.patch),
    )
    for key, value, meaning, needed in pairs:
        if value != needed:
            raise UserError(f"{key} = {value}, but {meaning} is {needed}: set {key} = {needed}")
    for resolution in config.resolutions():
        if resolution not in curate.resolutions:
            raise UserError(
                f"a stage trains at resolution {resolution}, but curate.resolutions = {list(curate.resolutions)}: "
                "add it there and curate again"
            )


def open_tables(config: RunConfig, tower: TowerSpec, codec: CodecSpec) -> tuple[Committer, Committer]:
    """The states and the latents table, created if they are new, each with its committer."""
    states = states_schema(tower.tower_id, tower.num_layers + 1, tower.dim, config.encode.state_format)
    latents = latents_schema(codec.codec_id, codec.channels, codec.stride)
    every = config.encode.fragments_per_commit
    return (
        Committer(create_table(config.states_uri(tower.tower_id), states), every),
        Committer(create_table(config.latents_uri(codec.codec_id), latents), every),
    )


def missing(name: str, tasks: pa.Table, committer: Committer) -> pa.Table:
    """The tasks whose key the table does not hold, after committing what a killed run wrote into it."""
    recovered = committer.recover()
    if recovered:
        print(f"{name}: {recovered} rows that an earlier run wrote and did not commit", flush=True)
    todo = keep_missing(tasks, read_column(committer.table, tasks.column_names[0]))
    print(f"{name}: {todo.num_rows} rows to encode, {tasks.num_rows - todo.num_rows} already there", flush=True)
    return todo


def run_pool(
    config: RunConfig, samples: TableVersion, operator: Operator, tasks: pa.Table, committer: Committer
) -> None:
    """Run the tasks through a pool of actors and commit the fragments they write."""
    committer.expect(tasks.column(0).to_pylist())
    if not tasks.num_rows:
        return
    actors = config.encode.actors
    ray.data.DataContext.get_current().enable_progress_bars = False
    pieces = num_pieces(tasks.num_rows, config.encode.rows_per_fragment, actors.max_actors)
    manifests = ray.data.from_items(tasks.to_pylist(), override_num_blocks=pieces).map_batches(
        operator,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=actors.min_actors, max_size=actors.max_actors),
        fn_constructor_args=(config.encode, samples, committer.table.uri, config.curate.image),
        **actors.options(),
    )
    for batch in manifests.iter_batches(batch_size=None, batch_format="pyarrow"):
        committer.add(batch.to_pylist())
        print(f"{operator.__name__}: {committer.num_encoded}/{tasks.num_rows} rows", flush=True)
    committer.finish()


def report(failures: dict[str, str]) -> None:
    """Say what could not be encoded: training leaves those samples out."""
    for key, reason in list(failures.items())[:10]:
        print(f"not encoded: {key[:12]} ({reason})", flush=True)
    if failures:
        print(f"{len(failures)} rows could not be encoded and will be left out", flush=True)


if __name__ == "__main__":
    entry(main, __doc__, section="encode")
