import json
import os

import pytest
from pydantic import ValidationError

from mos.curation.sources import EditsSource, FolderSource, Unit, WebDatasetSource, deal_units, inventory_id, list_units
from mos.errors import UserError


def test_units_survive_a_trip_as_text():
    unit = Unit(3, "photos", "/data", "ab", ('{"key": "\udcff"}',))
    assert Unit.from_json(unit.to_json()) == unit


def test_tars_are_units_in_order_each_once(tmp_path):
    for name in ("b.tar", "a.tar", "c.tar.gz"):
        (tmp_path / name).write_bytes(b"")
    source = WebDatasetSource(type="webdataset", name="w", paths=("*.tar", "a.tar", str(tmp_path / "c.tar.gz")))
    units = list_units([source], tmp_path)
    assert [unit.shard for unit in units] == [str(tmp_path / name) for name in ("a.tar", "b.tar", "c.tar.gz")]
    assert [unit.index for unit in units] == [0, 1, 2]


def test_object_stores_are_listed():
    import fsspec

    for name in ("s0.tar", "s1.tar"):
        with fsspec.open(f"memory://bucket/{name}", "wb") as stream:
            stream.write(b"x")
    source = WebDatasetSource(type="webdataset", name="w", paths=("memory://bucket/*.tar",))
    assert [unit.shard for unit in list_units([source], None)] == ["memory:///bucket/s0.tar", "memory:///bucket/s1.tar"]


def test_sidecars_are_grouped_by_stem(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "a.txt", "sub/b.png", "sub/b.json", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    units = list_units([FolderSource(name="f", path=str(tmp_path))], tmp_path, files_per_unit=2)
    entries = [json.loads(entry) for unit in units for entry in unit.entries]
    assert {entry["key"]: entry["files"] for entry in entries} == {
        "a": ["a.jpg", "a.txt"],
        "c": ["c.txt"],
        "sub/b": ["sub/b.json", "sub/b.png"],
    }
    assert [len(unit.entries) for unit in units] == [2, 1]


def test_images_that_no_line_names_are_still_entries(tmp_path):
    for name in ("a.jpg", "b.jpg", "notes.md"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "captions.jsonl").write_text('{"file": "a.jpg", "caption": "x"}\n\nbroken\n')
    source = FolderSource(name="f", path=str(tmp_path), captions=str(tmp_path / "captions.jsonl"))
    (unit,) = list_units([source], tmp_path)
    assert unit.entries == ('{"file": "a.jpg", "caption": "x"}', "broken", '{"file": "b.jpg"}')


def test_the_inventory_changes_with_any_file(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"one")
    source = WebDatasetSource(type="webdataset", name="w", paths=(str(tmp_path / "*.tar"),))
    before = list_units([source], tmp_path)
    assert inventory_id(before) == inventory_id(list_units([source], tmp_path))
    (tmp_path / "b.tar").write_bytes(b"two")
    after = list_units([source], tmp_path)
    assert before[0].id == after[0].id
    assert inventory_id(before) != inventory_id(after)
    os.utime(tmp_path / "a.tar", ns=(1, 1))
    assert list_units([source], tmp_path)[0].id != before[0].id


@pytest.mark.parametrize(
    "source",
    [
        FolderSource(name="f", path="nowhere"),
        FolderSource(name="f", path=".", captions="nowhere.jsonl"),
        WebDatasetSource(type="webdataset", name="w", paths=("nowhere/*.tar",)),
    ],
)
def test_missing_paths_are_named(source, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        list_units([source], tmp_path)


@pytest.mark.parametrize("fields", [{}, {"paths": ("a",), "path": "b", "triples": "c"}, {"path": "b"}])
def test_edits_come_in_one_form(fields):
    with pytest.raises(ValidationError, match="either"):
        EditsSource(type="edits", name="e", **fields)


def test_units_are_dealt_by_size():
    units = [Unit(place, "s", "x", "i", (), size) for place, size in enumerate([5, 1, 1, 1, 9, 4])]
    shares = deal_units(units, 3)
    assert [sum(unit.num_bytes for unit in share) for share in shares] == [9, 6, 6]
    assert sorted(unit.index for share in shares for unit in share) == [0, 1, 2, 3, 4, 5]
    assert [len(share) for share in deal_units(units, 100)] == [1] * 6
    assert [len(share) for share in deal_units([Unit(0, "s", "x", "i")] * 4, 2)] == [2, 2]
