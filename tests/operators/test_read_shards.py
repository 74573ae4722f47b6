"""Units in, items in bounded batches out, each item once; what is no item is counted behind them."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from mos.curation.config import CurateConfig
from mos.curation.items import ITEMS
from mos.curation.sources import list_units
from operators import read_shards
from operators.read_shards import ReadShards
from tests.operators.bad_inputs import Case, encode, noise, write_tar

PNG = encode(noise(), "PNG")
JUNK = Case({"png": b"\0\5\x16\7"}, None)


def pair(caption: str) -> Case:
    return Case({"png": PNG, "txt": caption.encode()}, None)


def tars(*paths: Path) -> dict:
    return {"type": "webdataset", "name": "tars", "paths": [str(path) for path in paths]}


def read(*sources: dict) -> list[pa.Table]:
    """Every unit of the sources, read by one call."""
    settings = CurateConfig(sources=sources, resolutions=(32,), token_px=8)
    units = [unit.to_json() for unit in list_units(settings.sources, Path("/"))]
    return list(ReadShards(settings)(pa.table({"unit": units})))


def test_items_come_in_the_order_of_their_shards_with_all_that_they_are(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"one": pair("first"), "two": Case({"txt": b"alone"}, None)})
    record = json.dumps({"caption": "second", "by": "me"}).encode()
    write_tar(tmp_path / "b.tar", {"three": Case({"png": PNG, "json": record}, None)})
    first, second = read(tars(tmp_path / "a.tar", tmp_path / "b.tar"))
    assert first.schema == second.schema == ITEMS
    shared = {"source": "tars", "task": "generate", "reference": None}
    kept = {"image": PNG, "reason": None, "detail": None}
    in_first = {**shared, "shard": str(tmp_path / "a.tar"), "unit": 0}
    assert first.to_pylist()[0] == {**in_first, **kept, "key": "one", "order": 0, "caption": "first", "meta": None}
    refused = {"image": None, "caption": None, "meta": None, "reason": "image_missing", "detail": "no image"}
    assert first.to_pylist()[1] == {**in_first, **refused, "key": "two", "order": 1}
    in_second = {**shared, "shard": str(tmp_path / "b.tar"), "unit": 1, "order": 1 << 32}
    assert second.to_pylist() == [
        {**in_second, **kept, "key": "three", "caption": "second", "meta": '{"by": "me"}'},
    ]


def test_an_edit_brings_its_source_and_its_task(tmp_path: Path) -> None:
    after = encode(noise(1), "PNG")
    told = json.dumps({"instruction": "make it blue"}).encode()
    write_tar(tmp_path / "e.tar", {"e": Case({"source.png": PNG, "target.png": after, "json": told}, None)})
    [table] = read({"type": "edits", "name": "edits", "paths": [str(tmp_path / "e.tar")]})
    [row] = table.to_pylist()
    assert (row["task"], row["image"], row["reference"], row["caption"]) == ("edit", after, PNG, "make it blue")


@pytest.mark.parametrize(
    ("bound", "most", "sizes"),
    [
        ("BATCH_ROWS", 3, [3, 3, 1]),
        ("BATCH_ROWS", 7, [7]),
        ("BATCH_BYTES", 1, [1] * 7),
        ("BATCH_BYTES", 2 * len(PNG), [2, 2, 2, 1]),
    ],
)
def test_a_batch_ends_at_either_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(read_shards, bound, most)
    write_tar(tmp_path / "s.tar", {str(number): pair(f"caption {number}") for number in range(7)})
    batches = read(tars(tmp_path / "s.tar"))
    assert [batch.num_rows for batch in batches] == sizes
    assert [key for batch in batches for key in batch.column("key").to_pylist()] == list("0123456")


def test_what_is_no_item_is_counted_behind_the_items_of_its_unit(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"._1": JUNK, "1": pair("one"), "._2": JUNK})
    write_tar(tmp_path / "b.tar", {"2": pair("two")})
    write_tar(tmp_path / "c.tar", {"._3": JUNK})
    *tables, last = read(tars(*(tmp_path / f"{name}.tar" for name in "abc")))
    assert [table.column("key").to_pylist() for table in tables] == [["1"], [""], ["2"]]
    for notices, num, unit in ((tables[1], "2", 0), (last, "1", 2)):
        [row] = notices.to_pylist()
        assert (row["reason"], row["detail"], row["unit"], row["image"]) == ("system_file", num, unit, None)
        assert notices.schema == ITEMS


def test_text_that_no_table_takes_is_written_out(tmp_path: Path) -> None:
    folder, outside = tmp_path / "pictures", tmp_path / "outside"
    for path in (folder, outside):
        path.mkdir()
    os.symlink(outside, os.fsencode(folder) + b"/caf\xe9")  # no UTF-8: Python reads it as a lone surrogate
    [table] = read({"type": "folder", "name": "f", "path": str(folder)})
    [row] = table.to_pylist()
    assert (row["key"], row["reason"]) == ("caf\\udce9/", "member_not_regular")
    assert "caf\\udce9" in row["detail"]


def test_a_shard_that_is_none_gives_its_verdict_alone(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(b"<html>" * 500)
    [table] = read(tars(tmp_path / "s.tar"))
    [row] = table.to_pylist()
    assert (row["key"], row["reason"], row["image"]) == ("(shard)", "shard_unreadable", None)
