"""Parity with the webdataset library: each sample of a clean shard is the same one to its reader and to ours."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from webdataset import ShardWriter, WebDataset

from mos.curation.config import CurateConfig
from mos.curation.items import Item
from mos.curation.shards import read_unit
from mos.curation.sources import EditsSource, SourceConfig, WebDatasetSource, list_units
from mos.shapes.dataset import ShapesConfig, write_shards

CLEAN = ShapesConfig(num_scenes=300, num_edits=60, broken_share=0, odd_share=0.1, samples_per_shard=100)
PICTURES = ("jpg", "png", "webp")
Sample = tuple[str, bytes, bytes | None, str]
"""Key, image, reference, caption."""


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(CLEAN, folder)
    return folder


def theirs(paths: list[Path]) -> list[Sample]:
    return [_as_theirs(sample) for sample in WebDataset([str(path) for path in paths], shardshuffle=False)]


def _as_theirs(sample: dict) -> Sample:
    record = json.loads(sample.get("json", b"{}"))
    text = sample.get("txt", b"").decode() or record.get("caption") or record["instruction"]
    image = next(sample[kind] for kind in (*PICTURES, *(f"target.{kind}" for kind in PICTURES)) if kind in sample)
    reference = next((sample[f"source.{kind}"] for kind in PICTURES if f"source.{kind}" in sample), None)
    return sample["__key__"], image, reference, text


def ours(source: SourceConfig) -> list[Sample]:
    config = CurateConfig(sources=(source,), resolutions=(32,), token_px=4)
    items = [item for unit in list_units([source], Path("/")) for item in read_unit(unit, source, config)]
    assert not [item for item in items if item.refusal is not None]
    return [_as_ours(item) for item in items]


def _as_ours(item: Item) -> Sample:
    assert item.image is not None
    assert item.caption is not None
    return item.key, item.image, item.reference, item.caption


def pairs(*paths: Path) -> WebDatasetSource:
    return WebDatasetSource(type="webdataset", name="w", paths=tuple(map(str, paths)))


def test_drawn_pairs_and_edits_are_the_same_samples(shards):
    found = sorted(shards.glob("pairs-*.tar"))
    assert ours(pairs(*found)) == theirs(found)
    assert len(theirs(found)) == CLEAN.num_scenes
    found = sorted(shards.glob("edits-*.tar"))
    assert ours(EditsSource(type="edits", name="e", paths=tuple(map(str, found)))) == theirs(found)
    assert len(theirs(found)) == CLEAN.num_edits


@pytest.mark.parametrize(("suffix", "compress"), [("tar.gz", gzip.compress), ("tgz", gzip.compress), ("tar.zst", zstd)])
def test_compressed_shards_hold_the_same_samples(tmp_path, shards, suffix, compress):
    plain = sorted(shards.glob("pairs-*.tar"))[0]
    packed = tmp_path / f"pairs.{suffix}"
    packed.write_bytes(compress(plain.read_bytes()))
    readable = plain if suffix == "tar.zst" else packed  # the library has no zstd of its own
    assert ours(pairs(packed)) == theirs([readable])


@pytest.mark.parametrize("compress", [False, "gz", "bz2", "xz"])
def test_what_its_writer_writes_is_read_with_any_names(tmp_path, compress):
    keys = ["a", "sub/b", "sub.with.dots/c", "ö", "長い名前", "x" * 150, "deep/" * 30 + "d", "with space", "UPPER"]
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    with ShardWriter(
        str(tmp_path / "s-%03d.tar"), maxcount=4, encoder=False, compress=compress, verbose=0, mtime=0
    ) as writer:
        for number, key in enumerate(keys):
            sample = {"__key__": key, "png": picture + bytes([number]), "txt": f"caption {number}".encode()}
            writer.write(sample | {"cls": b"7", "JSON": b'{"score": 1}'})
    written = sorted(tmp_path.glob("*.tar"))
    assert len(written) == 3
    assert ours(pairs(*written)) == theirs(written)
    assert [key for key, *_ in theirs(written)] == keys
