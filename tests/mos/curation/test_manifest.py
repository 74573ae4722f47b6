"""A manifest: items in, in any order; verdicts, counts and rejects out."""

import pyarrow as pa
import pytest

from mos.curation import manifest as module
from mos.curation.manifest import Manifest, light_schema, manifest_of, marks_schema
from mos.images.reasons import Notice, Reason
from mos.tables.schema import REJECTS

SCHEMA = marks_schema((32, 48))


@pytest.fixture(params=[2, 100_000])
def manifest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BATCH_ROWS", request.param)
    with manifest_of(SCHEMA) as made:
        yield made


def add(manifest: Manifest, *rows: dict, first: int = 0) -> None:
    """Marks of one shard, in order unless they say otherwise."""
    place = [{"source": "s", "shard": "s.tar", "unit": 0, "order": first + order} for order in range(len(rows))]
    manifest.add(pa.Table.from_pylist([a | b for a, b in zip(place, rows, strict=True)], schema=SCHEMA))


def kept(key: str, sample: int, phash: int = 0, pair: int = 0, **more) -> dict:
    hashes = {"sample_id": f"{sample:064x}", "pair": f"{pair:016x}", "phash": f"{phash:016x}"}
    return {"key": key, **hashes, **more}


def refused(key: str, reason: Reason | Notice, detail: str = "", **more) -> dict:
    return {"key": key, "reason": str(reason), "detail": detail, **more}


def column(manifest: Manifest, name: str, where: str = "true") -> list:
    return manifest.items(where).read_all().column(name).to_pylist()


def test_items_come_back_as_they_were_in_the_order_of_the_sources(manifest):
    late = kept("d", 2**255 + 4, 2**63 + 4, 2**63, bucket_32="32x32", place=3, fragment="{}", fragment_name="f")
    add(manifest, late, first=1 << 32)
    add(manifest, refused("a", Reason.CAPTION_EMPTY), kept("b", 2), refused("c", Reason.IMAGE_EMPTY, "0 bytes"))
    rows = manifest.items().read_all()
    assert rows.schema == SCHEMA
    assert rows.column("key").to_pylist() == ["a", "b", "c", "d"]
    found = rows.to_pylist()[-1]
    assert found == dict.fromkeys(SCHEMA.names) | late | {
        "source": "s",
        "shard": "s.tar",
        "unit": 0,
        "order": 1 << 32,
    }
    assert column(manifest, "key", "reason IS NULL") == ["b", "d"]


def test_notices_are_summed_up_and_are_no_items(manifest):
    add(
        manifest,
        refused("(shard)", Notice.LATE_MEMBER, "2"),
        refused("a", Reason.IMAGE_EMPTY, "0 bytes"),
        refused("(shard)", Notice.SYSTEM_FILE, "10"),
        kept("b", 1),
        refused("(shard)", Notice.LATE_MEMBER, "3"),
    )
    assert column(manifest, "key") == ["a", "b"]
    assert list(manifest.notices.items()) == [("system_file", 10), ("late_member", 5)]


def test_copies_are_refused_where_they_stand_and_say_what_they_repeat(manifest):
    add(
        manifest,
        kept("a", 1, 0b0000, place=0),
        refused("b", Reason.IMAGE_EMPTY, "0 bytes"),
        kept("c", 1, 0b0000, place=1),
        kept("d", 2, 0b0011, place=2),
        kept("e", 3, 0b0111, place=3),
        kept("f", 4, 0b0011, 7, place=4),
    )
    manifest.refuse_copies(None, near_bits=2)
    assert column(manifest, "reason") == [
        None,
        Reason.IMAGE_EMPTY,
        Reason.DUPLICATE_EXACT,
        Reason.DUPLICATE_NEAR,
        None,
        None,
    ]
    assert column(manifest, "detail")[1:4] == [
        "0 bytes",
        "same image and caption as a of s.tar",
        "2 bits from a of s.tar, same caption",
    ]
    assert column(manifest, "place") == [0, None, 1, 2, 3, 4]


def test_a_refused_item_makes_no_other_one_a_copy(manifest):
    add(manifest, kept("a", 1) | refused("a", Reason.BUCKET_NONE), kept("b", 1))
    manifest.refuse_copies(None, 2)
    assert column(manifest, "reason") == [Reason.BUCKET_NONE, None]


def test_counts(manifest):
    add(manifest, kept("a", 3, bucket_32="32x32", place=0), kept("b", 4, bucket_32="24x40", bucket_48="48x48", place=1))
    add(manifest, refused("c", Reason.IMAGE_EMPTY), kept("d", 5, bucket_32="24x40"), first=2)
    add(manifest, *[refused("e", Reason.BUCKET_NONE)] * 2, first=4)
    assert (manifest.num_items, manifest.num_kept, manifest.num_written) == (6, 3, 2)
    assert list(manifest.reasons().items()) == [("bucket_none", 2), ("image_empty", 1)]
    assert {side: list(counts.items()) for side, counts in manifest.buckets().items()} == {
        "32": [("24x40", 2), ("32x32", 1)],
        "48": [("48x48", 1)],
    }
    assert manifest.sum_of_ids() == 12


def test_a_manifest_may_be_empty(manifest):
    manifest.refuse_copies(None, 3)
    assert (manifest.num_items, manifest.sum_of_ids(), manifest.fragments(), list(manifest.rejects())) == (0, 0, [], [])


def test_refused_marks_become_rows_of_the_rejects_table(manifest):
    add(manifest, refused("c", Reason.IMAGE_CORRUPT), first=2)
    add(manifest, refused("a", Reason.IMAGE_EMPTY, "0 bytes"), kept("b", 1))
    (rejects,) = manifest.rejects()
    assert rejects.schema == REJECTS
    assert rejects.to_pylist() == [
        {"source": "s", "shard": "s.tar", "key": "a", "reason": "image_empty", "detail": "0 bytes"},
        {"source": "s", "shard": "s.tar", "key": "c", "reason": "image_corrupt", "detail": ""},
    ]


def test_written_copies_are_told_fragment_by_fragment(manifest):
    for order, (name, place) in enumerate([("f", 1), ("g", 0), ("f", 0), ("f", 2)]):
        written = {"fragment_name": name, "place": place, "fragment": "{}" if place == 0 else None}
        add(manifest, kept("a", 1 if order < 3 else 2, **written), first=order)
    manifest.refuse_copies(None, 0)
    assert manifest.fragments() == ["{}", "{}"]
    assert sorted(manifest.written_copies()) == [("f", [0]), ("g", [0])]


def test_light_rows_of_a_dry_run_keep_every_score():
    schema = light_schema((32,))
    assert {"caption", "sharpness", "phash", "pair", "bucket_32", "reason", "order"} <= set(schema.names)
    assert not {"image", "reference", "meta"} & set(schema.names)
    with manifest_of(schema) as manifest:
        row = dict.fromkeys(schema.names) | kept("a", 1) | {"order": 0, "sharpness": 0.5}
        manifest.add(pa.Table.from_pylist([row], schema=schema))
        assert manifest.items().read_all().to_pylist() == [row]
