"""The operator that writes latents, called as Ray Data would call it: one block in, its fragments out."""

from pathlib import Path

import pytest
import torch

from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import describe_codec, load_codec
from mos.encoders.vae import Codec
from mos.images.decode import ImageLimits
from mos.images.pixels import prepare_image
from mos.states.latents import unpack_latent
from mos.tables.encode_plan import plan_latents
from mos.tables.lance import commit_fragments, open_table
from operators.encode_latents import EncodeLatents
from tests.operators.encoding_blocks import LIMITS, PAIRS, EncoderThatFails, commit, latents_table, set_first
from tests.samples import Pair, append_samples, picture, views

COLOURS = ("red", "green", "blue")


def decoded(codec: Codec, row: dict) -> torch.Tensor:
    """The picture that a row of the table stands for."""
    height, width = map(int, row["bucket"].split("x"))
    grid = height // codec.stride, width // codec.stride
    return codec.decode(unpack_latent(bytearray(row["payload"]), codec.channels, grid)[None])[0]


def test_latents_in_the_table_decode_to_the_prepared_pictures(tmp_path: Path) -> None:
    config = EncodeConfig(images_per_batch=2)
    samples = append_samples(tmp_path, PAIRS)
    codec = load_codec(config.vae)
    uri = latents_table(config, tmp_path)
    tasks = plan_latents(samples, views(32, 48), codec.codec_id)
    rows, failures = commit(uri, EncodeLatents(config, samples, uri, LIMITS)(tasks))
    assert len(failures) == 2  # the broken picture, in both of its buckets
    assert all("image_truncated" in reason or "image_corrupt" in reason for reason in failures.values())
    assert sorted(row["bucket"] for row in rows.values()) == ["24x40", "24x40", "32x32", "48x48"]
    by_key = {task["latent_key"]: task for task in tasks.to_pylist()}
    for key, row in rows.items():
        colour = "blue" if by_key[key]["column"] == "reference" else "red"
        assert torch.equal(decoded(codec, row), prepare_image(picture(colour), row["bucket"], LIMITS))


@pytest.mark.parametrize(("images_per_batch", "places"), [(1, [0, 0, 0]), (2, [0, 1, 0]), (3, [0, 1, 2])])
def test_a_pass_is_of_one_bucket_and_no_larger_than_configured(
    tmp_path: Path, images_per_batch: int, places: list[int]
) -> None:
    config = EncodeConfig(images_per_batch=images_per_batch)
    samples = append_samples(tmp_path, [Pair(colour, colour) for colour in COLOURS])
    uri, seen = latents_table(config, tmp_path), []
    operator = EncodeLatents(config, samples, uri, LIMITS)
    operator._codec = EncoderThatFails(operator._codec, lambda latent, place: seen.append(place) or latent)
    rows, failures = commit(uri, operator(plan_latents(samples, views(32, 48), operator._codec.codec_id)))
    assert seen == places * 2
    assert (len(rows), failures) == (6, {})


def test_a_broken_picture_shifts_no_other_out_of_its_row(tmp_path: Path) -> None:
    config = EncodeConfig()
    samples = append_samples(tmp_path, [Pair(colour, colour, broken=colour == "green") for colour in COLOURS])
    codec, uri = load_codec(config.vae), latents_table(config, tmp_path)
    tasks = plan_latents(samples, views(32), codec.codec_id)
    rows, failures = commit(uri, EncodeLatents(config, samples, uri, LIMITS)(tasks))
    colour_of = {task["latent_key"]: COLOURS[task["row"]] for task in tasks.to_pylist()}
    assert {colour_of[key] for key in rows} == {"red", "blue"}
    assert [colour_of[key] for key in failures] == ["green"]
    for key, row in rows.items():
        assert torch.equal(decoded(codec, row), prepare_image(picture(colour_of[key]), "32x32", LIMITS))


def test_where_no_picture_can_be_encoded_nothing_is_written(tmp_path: Path) -> None:
    config = EncodeConfig()
    samples = append_samples(tmp_path, [Pair("red", "red"), Pair("blue", "blue")])
    uri = latents_table(config, tmp_path)
    operator = EncodeLatents(config, samples, uri, ImageLimits(max_pixels=64 * 48 - 1))
    tasks = plan_latents(samples, views(32), describe_codec(config.vae).codec_id)
    (written,) = operator(tasks)
    (row,) = written.to_pylist()
    assert (row["fragment"], row["keys"]) == (None, [])
    assert row["failed_keys"] == tasks.column("latent_key").to_pylist()
    assert row["failures"] == ["image_too_many_pixels: 64x48 px, at most 3071 pixels"] * 2
    assert not list((tmp_path / "latents.lance").glob("data/*"))
    assert list(operator(tasks.slice(0, 0))) == []
    assert open_table(uri).count_rows() == 0


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e6])
def test_latents_that_a_table_cannot_hold_are_refused_with_a_reason(tmp_path: Path, value: float) -> None:
    config = EncodeConfig()
    samples = append_samples(tmp_path, [Pair("a red circle", "red"), Pair("a blue circle", "blue")])
    uri = latents_table(config, tmp_path)
    operator = EncodeLatents(config, samples, uri, LIMITS)
    operator._codec = EncoderThatFails(operator._codec, set_first(value))
    rows, failures = commit(uri, operator(plan_latents(samples, views(32), operator._codec.codec_id)))
    assert len(rows) == len(failures) == 1
    assert next(iter(failures.values())).startswith("latent_not_finite: ")


def test_fragments_are_cut_where_they_would_be_too_many_bytes(tmp_path: Path) -> None:
    """A latent of the pixel codec at 720x720 is 3 MB."""
    config = EncodeConfig(mb_per_fragment=7, images_per_batch=2)
    pairs = [Pair(colour, colour, buckets=("720x720", None)) for colour in (*COLOURS, "yellow", "black")]
    samples = append_samples(tmp_path, pairs)
    uri = latents_table(config, tmp_path)
    operator = EncodeLatents(config, samples, uri, LIMITS)
    tasks = plan_latents(samples, views(32), operator._codec.codec_id)
    written = [row for part in operator(tasks) for row in part.to_pylist()]
    assert [len(row["keys"]) for row in written] == [2, 2, 1]
    assert len({key for row in written for key in row["keys"]}) == 5
    assert commit_fragments(uri, [row["fragment"] for row in written], 5).rows == 5
