import pyarrow as pa

from mos.curation.duplicates import Mark
from mos.curation.manifest import (
    compact,
    count_reasons,
    drop_copies,
    join,
    mark_of,
    marks_schema,
    rejects_of,
    split_notices,
)
from mos.images.reasons import Notice, Reason
from mos.tables.schema import REJECTS

SCHEMA = marks_schema((32, 48))


def marks(*rows: dict) -> pa.Table:
    """Marks of one shard, in order unless they say otherwise; as they arrive at the driver."""
    place = [{"source": "s", "shard": "s.tar", "unit": 0, "order": order} for order in range(len(rows))]
    return compact(pa.Table.from_pylist([a | b for a, b in zip(place, rows, strict=True)], schema=SCHEMA))


def kept(key: str, sample_id: str, phash: int, pair: str = "p", **more) -> dict:
    return {"key": key, "sample_id": sample_id, "pair": pair, "phash": f"{phash:016x}", **more}


def refused(key: str, reason: Reason | Notice, detail: str = "", **more) -> dict:
    return {"key": key, "reason": str(reason), "detail": detail, **more}


def test_compacting_changes_no_value_and_needs_no_column():
    place = {"source": "photos", "shard": "/data/photos-000.tar"}
    rows = [kept("a", "1", 0, **place), refused("b", Reason.IMAGE_EMPTY, **place)] * 50
    plain = pa.Table.from_pylist(rows, schema=SCHEMA)
    small = compact(plain)
    assert small.to_pylist() == plain.to_pylist()
    assert small.nbytes < plain.nbytes
    alone = plain.select(["key", "place"])
    assert compact(alone) == alone


def test_parts_are_joined_in_the_order_of_the_sources():
    late = marks(kept("d", "4", 4, order=1 << 32), refused("c", Reason.IMAGE_EMPTY, order=2))
    early = marks(kept("b", "2", 2, order=1), refused("a", Reason.CAPTION_EMPTY, order=0))
    joined = join([late, early])
    assert joined.column("key").to_pylist() == ["a", "b", "c", "d"]
    assert joined.column("reason").to_pylist() == [Reason.CAPTION_EMPTY, None, Reason.IMAGE_EMPTY, None]


def test_notices_are_summed_up_and_are_no_items():
    rows = marks(
        refused("(shard)", Notice.LATE_MEMBER, "2"),
        refused("a", Reason.IMAGE_EMPTY, "0 bytes"),
        refused("(shard)", Notice.SYSTEM_FILE, "10"),
        kept("b", "1", 0),
        refused("(shard)", Notice.LATE_MEMBER, "3"),
    )
    items, notices = split_notices(rows)
    assert items.column("key").to_pylist() == ["a", "b"]
    assert list(notices.items()) == [("system_file", 10), ("late_member", 5)]
    assert split_notices(items) == (items, {})


def test_copies_are_refused_where_they_stand_and_say_what_they_repeat():
    rows = marks(
        kept("a", "1", 0b0000, place=0),
        refused("b", Reason.IMAGE_EMPTY, "0 bytes"),
        kept("c", "1", 0b0000, place=1),
        kept("d", "2", 0b0011, place=2),
        kept("e", "3", 0b0111, place=3),
        kept("f", "4", 0b0011, "another caption", place=4),
    )
    found = drop_copies(rows, [], near_bits=2)
    assert found.column("reason").to_pylist() == [
        None,
        Reason.IMAGE_EMPTY,
        Reason.DUPLICATE_EXACT,
        Reason.DUPLICATE_NEAR,
        None,
        None,
    ]
    assert found.column("detail").to_pylist()[1:4] == [
        "0 bytes",
        "same image and caption as a of s.tar",
        "2 bits from a of s.tar, same caption",
    ]
    assert found.column("place").to_pylist() == [0, None, 1, 2, 3, 4]


def test_what_was_kept_before_comes_first():
    before = [Mark("1", "p", 0b0, "x of old.tar")]
    rows = marks(kept("a", "1", 0b0), kept("b", "2", 0b1), kept("c", "3", 0b10, "q"))
    assert drop_copies(rows, before, 0).column("detail").to_pylist() == [
        "same image and caption as x of old.tar",
        None,
        None,
    ]
    assert drop_copies(rows, before, 1).column("reason").to_pylist() == [
        Reason.DUPLICATE_EXACT,
        Reason.DUPLICATE_NEAR,
        None,
    ]


def test_a_refused_item_makes_no_other_one_a_copy():
    rows = marks(refused("a", Reason.BUCKET_NONE, sample_id="1", pair="p", phash="0" * 16), kept("b", "1", 0))
    assert drop_copies(rows, [], 2).column("reason").to_pylist() == [Reason.BUCKET_NONE, None]


def test_a_mark_holds_the_hash_as_a_number():
    row = kept("a", "1", 2**63 + 5) | {"shard": "s.tar"}
    assert mark_of(row) == Mark("1", "p", 2**63 + 5, "a of s.tar")


def test_refused_marks_become_rows_of_the_rejects_table():
    rows = marks(refused("a", Reason.IMAGE_EMPTY, "0 bytes"), kept("b", "1", 0), refused("c", Reason.IMAGE_CORRUPT))
    rejects = rejects_of(rows)
    assert rejects.schema == REJECTS
    assert rejects.to_pylist() == [
        {"source": "s", "shard": "s.tar", "key": "a", "reason": "image_empty", "detail": "0 bytes"},
        {"source": "s", "shard": "s.tar", "key": "c", "reason": "image_corrupt", "detail": ""},
    ]


def test_reasons_are_counted_the_most_frequent_first():
    rejects = rejects_of(marks(*(refused("a", reason) for reason in (Reason.IMAGE_EMPTY, *[Reason.BUCKET_NONE] * 2))))
    assert list(count_reasons(rejects).items()) == [("bucket_none", 2), ("image_empty", 1)]
