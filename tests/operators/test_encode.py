"""Both encoding operators called as Ray Data would call them: one block in, one fragment out."""

from pathlib import Path

import pyarrow as pa
import torch

from mos.data.decode import ImageLimits
from mos.data.encode_plan import plan_contexts, plan_latents
from mos.data.encoded import latents_schema, states_schema
from mos.data.pictures import prepare_image
from mos.encoders.encoding import EncodeConfig
from mos.encoders.understanding import InternVLConfig, describe_tower, load_tower
from mos.encoders.vae import describe_codec, load_codec
from mos.states.keys import context_key
from mos.states.latents import unpack_latent
from mos.states.payload import state_format
from mos.tables import TableVersion, commit_fragments, create_table
from operators.encode_latents import EncodeLatents
from operators.encode_states import EncodeStates
from tests.samples import Pair, append_samples, picture
from tests.towers import save_internvl

PAIRS = [
    Pair("a red circle", "red"),
    Pair("a broken picture", "green", broken=True),
    Pair("make it red", "red", reference="blue", buckets=("24x40", None)),
]
LIMITS = ImageLimits()


def commit(uri: str, encoded: pa.Table) -> tuple[dict[str, dict], dict[str, str]]:
    """Rows by key of the only fragment, and what failed."""
    (row,) = encoded.to_pylist()
    table = commit_fragments(uri, [row["fragment"]], len(row["keys"])).open().to_table()
    assert table.column(0).to_pylist() == row["keys"]
    rows = dict(zip(row["keys"], table.to_pylist(), strict=True))
    return rows, dict(zip(row["failed_keys"], row["failures"], strict=True))


def encode_states(config: EncodeConfig, samples: TableVersion, tasks: pa.Table, folder: Path) -> tuple:
    tower = describe_tower(config.tower)
    schema = states_schema(tower.tower_id, tower.num_layers + 1, tower.dim, config.state_format)
    uri = create_table(str(folder / "states.lance"), schema).uri
    return commit(uri, EncodeStates(config, samples, uri, LIMITS)(tasks))


def test_states_in_the_table_are_the_towers_own(tmp_path: Path) -> None:
    config = EncodeConfig(contexts_per_batch=2)
    samples = append_samples(tmp_path, PAIRS)
    rows, failures = encode_states(config, samples, plan_contexts(samples, (32, 48), False), tmp_path)
    assert not failures
    assert len(rows) == 4
    for text in ("a red circle", "make it red", ""):
        row = rows[context_key(text)]
        stored = state_format("bf16", 7, 384).unpack(row["payload"], row["num_tokens"])
        (alone,) = load_tower(config.tower).encode([text])
        torch.testing.assert_close(stored, alone.states, atol=0.02, rtol=0.02)


def test_a_tower_that_sees_images_gets_the_reference_of_an_edit(tmp_path: Path) -> None:
    tower = InternVLConfig(path=str(save_internvl(tmp_path / "internvl")), dtype="float32")
    config = EncodeConfig(tower=tower)
    samples = append_samples(tmp_path, PAIRS)
    rows, failures = encode_states(config, samples, plan_contexts(samples, (32, 48), True), tmp_path)
    assert not failures
    assert len(rows) == 5
    shown, alone = (
        (row for key, row in rows.items() if key not in map(context_key, ("a red circle", "a broken picture", ""))),
        rows[context_key("")],
    )
    for row in shown:
        assert row["num_tokens"] > alone["num_tokens"]


def test_a_broken_reference_fails_alone(tmp_path: Path) -> None:
    samples = append_samples(tmp_path, [Pair("make it red", "red", reference="blue"), Pair("a red circle")])
    broken = ImageLimits(max_pixels=10)
    tower = InternVLConfig(path=str(save_internvl(tmp_path / "internvl")))
    config = EncodeConfig(tower=tower)
    spec = describe_tower(tower)
    uri = create_table(str(tmp_path / "s.lance"), states_schema(spec.tower_id, 4, 32, "bf16")).uri
    rows, failures = commit(uri, EncodeStates(config, samples, uri, broken)(plan_contexts(samples, (32,), True)))
    assert set(rows) == {context_key("a red circle"), context_key("")}
    assert len(failures) == 2
    assert all("pixels" in reason for reason in failures.values())


def test_latents_in_the_table_decode_to_the_prepared_pictures(tmp_path: Path) -> None:
    config = EncodeConfig(images_per_batch=2)
    samples = append_samples(tmp_path, PAIRS)
    codec = load_codec(config.vae)
    spec = describe_codec(config.vae)
    uri = create_table(str(tmp_path / "l.lance"), latents_schema(spec.codec_id, spec.channels, spec.stride)).uri
    tasks = plan_latents(samples, (32, 48), spec.codec_id)
    rows, failures = commit(uri, EncodeLatents(config, samples, uri, LIMITS)(tasks))
    assert len(failures) == 2  # the broken picture, in both of its buckets
    assert all("image_truncated" in reason or "image_corrupt" in reason for reason in failures.values())
    assert sorted(row["bucket"] for row in rows.values()) == ["24x40", "24x40", "32x32", "48x48"]
    by_key = {task["latent_key"]: task for task in tasks.to_pylist()}
    for key, row in rows.items():
        height, width = map(int, row["bucket"].split("x"))
        latent = unpack_latent(row["payload"], spec.channels, (height // spec.stride, width // spec.stride))
        colour = "blue" if by_key[key]["column"] == "reference" else "red"
        assert torch.equal(codec.decode(latent[None])[0], prepare_image(picture(colour), row["bucket"], LIMITS))
