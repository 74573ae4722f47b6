import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from mos.curation.config import CurateConfig
from mos.curation.file_names import is_safe_name, spellings
from mos.curation.items import Item
from mos.curation.shards import read_unit
from mos.curation.sources import inventory_id, list_units
from mos.errors import UserError
from mos.images.reasons import Notice, Reason
from tests.unprivileged import unprivileged


def read(source: dict, base: Path = Path("/"), **limits) -> tuple[dict[str, Item], dict[Notice, int]]:
    """Every candidate by its key, each key once, and what was counted apart."""
    config = CurateConfig(sources=[{"name": "s", **source}], resolutions=[32], token_px=8, **limits)
    notices = Counter[Notice]()
    items: list[Item] = []
    for unit in list_units(config.sources, base):
        items += read_unit(unit, config.sources[0], config, notices)
    found = {item.key: item for item in items}
    assert len(found) == len(items)
    return found, dict(+notices)


def fates(found: dict[str, Item]) -> dict[str, Reason | None]:
    return {key: item.refusal and item.refusal.reason for key, item in found.items()}


def fill(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def lines(*records: dict) -> bytes:
    return b"\n".join(json.dumps(record, ensure_ascii=False).encode() for record in records)


def jsonl(folder: Path, *records: dict, encoding: str = "utf-8") -> dict:
    (folder / "captions.jsonl").write_bytes(lines(*records).decode().encode(encoding))
    return {"type": "folder", "path": folder, "captions": folder / "captions.jsonl"}


def test_a_text_named_after_the_whole_image_is_its_own(tmp_path):
    folder = fill(
        tmp_path,
        {
            "a.jpg": "a",
            "a.jpg.txt": "a cat",
            "b.jpg": "b",
            "b.jpg.json": '{"caption": "a dog"}',
            "c.png": "c",
            "c.txt": "a cow",
            "c.png.json": '{"by": "me"}',
            "d.jpg": "d1",
            "d.jpg.txt": "the photograph",
            "d.png": "d2",
            "d.png.txt": "the drawing",
            "e.jpg": "e1",
            "e.png": "e2",
            "e.txt": "of which?",
            "f.jpg.txt": "an image that is not there",
        },
    )
    found, _ = read({"type": "folder", "path": folder})
    assert fates(found) == {
        "a": None,
        "b": None,
        "c": None,
        "d.jpg": None,
        "d.png": None,
        "e": Reason.IMAGE_AMBIGUOUS,
        "f.jpg": Reason.IMAGE_MISSING,
    }
    assert {key: found[key].caption for key in "abc"} == {"a": "a cat", "b": "a dog", "c": "a cow"}
    assert found["c"].meta == '{"by": "me"}'


def test_both_unicode_forms_of_a_name_are_one_sample(tmp_path):
    folder = fill(tmp_path, {"caf\u00e9.jpg": "a", "cafe\u0301.txt": "a coffee"})
    assert fates(read({"type": "folder", "path": folder})[0]) == {"caf\u00e9": None}


def test_an_empty_text_leaves_the_caption_to_the_json(tmp_path):
    folder = fill(tmp_path, {"a.jpg": "a", "a.txt": " \n", "a.json": '{"caption": "a cat"}', "b.jpg": "b", "b.txt": ""})
    found, _ = read({"type": "folder", "path": folder})
    assert found["a"].caption == "a cat"
    assert fates(found) == {"a": None, "b": Reason.CAPTION_EMPTY}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_texts_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    folder = fill(
        tmp_path,
        {
            "a.jpg": "a",
            "a.txt": "un café\r\n".encode(encoding),
            "b.jpg": "b",
            "b.json": '{"caption": "un thé"}\r\n'.encode(encoding),
        },
    )
    found, _ = read({"type": "folder", "path": folder})
    assert [item.caption for item in found.values()] == ["un café", "un thé"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_jsonl_may_begin_with_a_byte_order_mark(tmp_path, encoding, end):
    fill(tmp_path, {"a.jpg": "a", "b.jpg": "b"})
    text = end.join(['{"file": "a.jpg", "caption": "un café"}', "", '{"file": "b.jpg", "caption": "c\u2028d"}', ""])
    (tmp_path / "captions.jsonl").write_bytes(text.encode(encoding))
    found, _ = read({"type": "folder", "path": tmp_path, "captions": tmp_path / "captions.jsonl"})
    assert {key: item.caption for key, item in found.items()} == {"a": "un café", "b": "c d"}


def test_joined_jsonls_may_have_a_mark_in_each(tmp_path):
    fill(tmp_path, {"a.jpg": "a", "b.jpg": "b"})
    one, two = lines({"file": "a.jpg", "caption": "a cat"}), lines({"file": "b.jpg", "caption": "a dog"})
    (tmp_path / "captions.jsonl").write_bytes(b"\xef\xbb\xbf" + one + b"\n\xef\xbb\xbf" + two)
    source = {"type": "folder", "path": tmp_path, "captions": tmp_path / "captions.jsonl"}
    assert fates(read(source)[0]) == {"a": None, "b": None}


@pytest.mark.parametrize("data", [b"\xff\xfea", b"\xff\xfe\x00\xd8a\x00"])
def test_a_jsonl_that_does_not_decode_is_named(tmp_path, data):
    (tmp_path / "captions.jsonl").write_bytes(data)
    with pytest.raises(UserError, match=r"captions\.jsonl is damaged"):
        read({"type": "folder", "path": tmp_path, "captions": tmp_path / "captions.jsonl"})


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_for_a_jsonl_is_named(tmp_path, indent):
    (tmp_path / "captions.jsonl").write_text(json.dumps([{"file": "a.jpg", "caption": "a cat"}], indent=indent))
    with pytest.raises(UserError, match="one JSON array: write one object a line"):
        read({"type": "folder", "path": tmp_path, "captions": tmp_path / "captions.jsonl"})


def test_other_spellings_name_the_same_file(tmp_path):
    folder = fill(
        tmp_path / "photos",
        dict.fromkeys(["0.jpg", "1.jpg", "2.jpg", "3.jpg", "b/4.jpg", "b/5.jpg", "b/6.jpg", "7\\8.jpg"], "x")
        | {"caf\u00e9.jpg": "nfc", "the\u0301.jpg": "nfd", "12:30.jpg": "half past"},
    )
    (tmp_path / "other").symlink_to(folder)
    (folder / "latest").symlink_to("b")
    names = {
        "./0.jpg": "0",
        f"{folder}/1.jpg": "1",
        f"file://{folder}/2.jpg": "2",
        f"{tmp_path}/other/3.jpg": "3",
        "b//4.jpg": "b/4",
        "b/../b/./5.jpg": "b/5",
        "b\\6.jpg": "b\\6",
        "7\\8.jpg": "7\\8",
        "cafe\u0301.jpg": "cafe\u0301",
        "th\u00e9.jpg": "th\u00e9",
        "12:30.jpg": "12:30",
    }
    source = jsonl(folder, *({"file": name, "caption": f"picture {name}"} for name in names))
    found, _ = read(source)
    assert fates(found) == dict.fromkeys(names.values(), None)
    (folder / "captions.jsonl").unlink()
    source = jsonl(folder, *({"file": f"latest/{number}.jpg", "caption": "a cat"} for number in (4, 5, 6)))
    found, _ = read(source)
    assert [key for key, fate in fates(found).items() if fate is None] == ["latest/4", "latest/5", "latest/6"]
    assert not {"b/4", "b/5", "b/6"} & set(found), "they were named by another way"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../outside.jpg", Reason.MEMBER_UNSAFE_NAME),
        ("b/../../outside.jpg", Reason.MEMBER_UNSAFE_NAME),
        ("..\\outside.jpg", Reason.MEMBER_UNSAFE_NAME),
        ("/etc/hostname.jpg", Reason.MEMBER_UNSAFE_NAME),
        ("file:///etc/hostname.jpg", Reason.MEMBER_UNSAFE_NAME),
        ("https://example.org/a.jpg", Reason.MEMBER_UNSAFE_NAME),
        ("C:\\photos\\a.jpg", Reason.MEMBER_UNSAFE_NAME),
        ("simplecache::s3://bucket/a.jpg", Reason.MEMBER_UNSAFE_NAME),
        ("a.jpg\0.png", Reason.MEMBER_UNSAFE_NAME),
        (".", Reason.MEMBER_UNSAFE_NAME),
        ("a.jpg/b.jpg", Reason.IMAGE_MISSING),
        ("gone.jpg", Reason.IMAGE_MISSING),
        ("x" * 300 + ".jpg", Reason.MEMBER_NAME_TOO_LONG),
        ("x" * 2000 + ".jpg", Reason.MEMBER_NAME_TOO_LONG),
        ("a.avif", Reason.MEMBER_TYPE_REFUSED),
        ("a.jpg/", None),
    ],
)
def test_names_that_lead_nowhere_are_refused(tmp_path, name, reason):
    fill(tmp_path, {"photos/a.jpg": "a", "outside.jpg": "b"})
    source = jsonl(tmp_path / "photos", {"file": name, "caption": "a cat", "key": "told"})
    assert fates(read(source)[0])["told"] == reason


def test_spellings_of_objects_in_a_store():
    folder = "s3://bucket/photos"
    assert spellings("s3://bucket/photos/a.jpg", folder) == ["a.jpg"]
    assert spellings("./b//a.jpg", folder) == ["b/a.jpg"]
    assert spellings("s3://bucket/photos-2/a.jpg", folder) == []
    assert spellings("s3://bucket/photos/../a.jpg", folder) == []
    assert spellings("/bucket/photos/a.jpg", folder) == []


def test_folders_in_a_store_take_other_spellings():
    import fsspec

    for name in ("a.jpg", "b/c.jpg", ".DS_Store"):
        with fsspec.open(f"memory://spelled/{name}", "wb") as stream:
            stream.write(b"x")
    records = [{"file": name, "caption": "a cat"} for name in ("./a.jpg", "b//c.jpg")]
    with fsspec.open("memory://spelled/captions.jsonl", "wb") as stream:
        stream.write(lines(*records))
    source = {"type": "folder", "path": "memory://spelled", "captions": "memory://spelled/captions.jsonl"}
    assert fates(read(source)[0]) == {"a": None, "b/c": None}


@pytest.mark.parametrize("name", ["a.jpg", "a/b.jpg", "..a.jpg", "12:30.jpg", "a:b/c.jpg", "...", "a..b"])
def test_safe_names(name):
    assert is_safe_name(name)


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/..", "a\\..\\b", "C:\\a", "c:/a", "a\0b", "x::y"])
def test_unsafe_names(name):
    assert not is_safe_name(name)


def hub_snapshot(cache: Path) -> Path:
    """As `huggingface_hub.snapshot_download` leaves a data set."""
    repository = cache / "datasets--someone--pictures"
    snapshot = repository / "snapshots" / "0123abc"
    for number, (name, data) in enumerate(
        {"0.jpg": "a", "0.txt": "a cat", "train/1.jpg": "b", "train/1.json": '{"caption": "a dog"}'}.items()
    ):
        blob = repository / "blobs" / f"{number:040x}"
        fill(repository, {f"blobs/{number:040x}": data})
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_snapshot_of_the_hub_is_read_through_its_links(tmp_path):
    snapshot = hub_snapshot(tmp_path)
    assert fates(read({"type": "folder", "path": snapshot})[0]) == {"0": None, "train/1": None}
    assert fates(read({"type": "folder", "path": snapshot / "train"})[0]) == {"1": None}
    (tmp_path / "short").symlink_to(snapshot)
    assert fates(read({"type": "folder", "path": tmp_path / "short"})[0]) == {"0": None, "train/1": None}
    source = jsonl(snapshot, {"file": "0.jpg", "caption": "a cat"}, {"file": "./train/1.jpg", "caption": "a dog"})
    assert fates(read(source)[0]) == {"0": None, "train/1": None}


def test_a_snapshot_leads_to_its_own_blobs_alone(tmp_path):
    snapshot = hub_snapshot(tmp_path)
    fill(tmp_path, {"secret.jpg": "x", "datasets--other--pictures/blobs/00": "y"})
    (snapshot / "2.jpg").symlink_to(tmp_path / "secret.jpg")
    (snapshot / "3.jpg").symlink_to("../../../datasets--other--pictures/blobs/00")
    found = fates(read({"type": "folder", "path": snapshot})[0])
    assert found["2"] == found["3"] == Reason.MEMBER_NOT_REGULAR


def test_links_lead_where_the_source_allows(tmp_path):
    fill(tmp_path, {"store/a.jpg": "a", "store/b.jpg": "b", "elsewhere/c.jpg": "c", "photos/d.jpg": "d"})
    folder = tmp_path / "photos"
    for name, target in (("a.jpg", "store/a.jpg"), ("c.jpg", "elsewhere/c.jpg"), ("dead.jpg", "store/gone.jpg")):
        (folder / name).symlink_to(tmp_path / target)
    for name in "abcd":
        (folder / f"{name}.txt").write_text(f"picture {name}")
    (folder / "dead.txt").write_text("a dead link")
    source = {"type": "folder", "path": folder}
    found, _ = read(source)
    assert fates(found)["a"] == Reason.MEMBER_NOT_REGULAR
    assert "`follow_links`" in found["a"].refusal.detail
    found, _ = read(source | {"follow_links": [tmp_path / "store"]})
    assert fates(found) == {
        "a": None,
        "b": Reason.IMAGE_MISSING,
        "c": Reason.MEMBER_NOT_REGULAR,
        "d": None,
        "dead": Reason.FILE_UNREADABLE,
    }
    found, _ = read(source | {"path": "photos", "follow_links": ["store", "elsewhere"]}, base=tmp_path)
    assert {key for key, fate in fates(found).items() if fate is None} == {"a", "c", "d"}


def test_linked_folders_are_read_once_where_they_are_allowed(tmp_path):
    fill(tmp_path, {"store/x/a.jpg": "a", "store/x/a.txt": "a cat", "photos/b/c.jpg": "c", "photos/b/c.txt": "a dog"})
    folder = tmp_path / "photos"
    (folder / "linked").symlink_to(tmp_path / "store")
    (folder / "again").symlink_to(folder / "b")
    (tmp_path / "store" / "loop").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "back").symlink_to(folder)
    source = {"type": "folder", "path": folder}
    found, _ = read(source)
    assert fates(found) == {"b/c": None, "linked/": Reason.MEMBER_NOT_REGULAR}
    found, _ = read(source | {"follow_links": [tmp_path / "store"]})
    assert fates(found) == {"b/c": None, "linked/x/a": None}


def test_a_changed_file_behind_a_link_changes_the_inventory(tmp_path):
    fill(tmp_path, {"store/a.jpg": "a", "photos/a.txt": "a cat"})
    (tmp_path / "photos/a.jpg").symlink_to(tmp_path / "store/a.jpg")
    settings = {"type": "folder", "name": "s", "path": tmp_path / "photos", "follow_links": [tmp_path / "store"]}
    config = CurateConfig(sources=[settings], resolutions=[32], token_px=8)
    before = inventory_id(list_units(config.sources, tmp_path))
    (tmp_path / "store/a.jpg").write_bytes(b"another")
    assert inventory_id(list_units(config.sources, tmp_path)) != before


def test_files_of_operating_systems_are_counted_apart(tmp_path):
    folder = fill(
        tmp_path,
        {
            "a.jpg": "a",
            "a.txt": "a cat",
            "._a.jpg": "\0\5\x16\7",
            "._a.txt": "\0\5\x16\7",
            ".DS_Store": "x",
            "sub/Thumbs.db": "x",
            "sub/desktop.ini": "x",
            "__MACOSX/._a.jpg": "x",
            "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg": "x",
            ".cache/huggingface/download/a.jpg.metadata": "x",
        },
    )
    found, notices = read({"type": "folder", "path": folder})
    assert fates(found) == {"a": None}
    assert notices == {Notice.SYSTEM_FILE: 8}
    found, notices = read(jsonl(folder, {"file": "a.jpg", "caption": "a cat"}))
    assert (fates(found), notices) == ({"a": None}, {Notice.SYSTEM_FILE: 8})


def test_a_folder_of_nothing_else_is_counted_apart_too(tmp_path):
    assert read({"type": "folder", "path": fill(tmp_path, {".DS_Store": "x"})}) == ({}, {Notice.SYSTEM_FILE: 1})


@pytest.mark.parametrize("kind", ["avif", "gif", "tiff", "tif", "bmp"])
def test_other_pictures_are_refused_with_the_setting_that_allows_them(tmp_path, kind):
    folder = fill(tmp_path, {f"a.{kind}": "a", "a.txt": "a cat", f"b.{kind}": "b"})
    name = "tiff" if kind == "tif" else kind
    for source in ({"type": "folder", "path": folder}, jsonl(folder, {"file": f"a.{kind}", "caption": "a cat"})):
        found, _ = read(source)
        assert found["a"].refusal.reason == Reason.MEMBER_TYPE_REFUSED
        assert f'curate.image.extra_formats = ["{name}"] allows it' in found["a"].refusal.detail
        assert found["b"].refusal is not None, "a picture that nobody names is counted"
        found, _ = read(source, image={"extra_formats": [name]})
        assert (found["a"].image, found["a"].caption) == (b"a", "a cat")


@pytest.fixture
def open_folder():
    """A folder that every user may enter, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


def locked(folder: Path) -> Path:
    """Samples, of which some may not be read by another user."""
    names = ["a", "b", "closed/c", "closed/d", "unsearchable/e", "open/f"]
    fill(folder, {f"{name}.jpg": name for name in names} | {f"{name}.txt": f"picture {name}" for name in names})
    (folder / "b.jpg").chmod(0)
    (folder / "closed").chmod(0)
    (folder / "unsearchable").chmod(0o744)
    return folder


def test_what_may_not_be_read_is_one_reject_each(open_folder):
    source = {"type": "folder", "path": locked(open_folder)}
    with unprivileged():
        found, _ = read(source)
    assert fates(found) == {
        "a": None,
        "b": Reason.PERMISSION,
        "closed/": Reason.PERMISSION,
        "unsearchable/e": Reason.PERMISSION,
        "open/f": None,
    }
    assert str(open_folder / "closed") in found["closed/"].refusal.detail


def test_lines_that_name_what_may_not_be_read_are_one_reject_each(open_folder):
    locked(open_folder)
    names = ["a", "b", "closed/c", "unsearchable/e", "open/f"]
    source = jsonl(open_folder, *({"file": f"{name}.jpg", "caption": f"picture {name}"} for name in names))
    with unprivileged():
        found, _ = read(source)
    assert fates(found) == {
        "a": None,
        "b": Reason.PERMISSION,
        "closed/c": Reason.PERMISSION,
        "unsearchable/e": Reason.PERMISSION,
        "open/f": None,
    }


def test_a_source_that_may_not_be_read_at_all_is_named(open_folder):
    folder = fill(open_folder, {"photos/a.jpg": "a", "captions.jsonl": "{}"})
    (folder / "captions.jsonl").chmod(0)
    with unprivileged(), pytest.raises(UserError, match=r"captions\.jsonl may not be read"):
        read({"type": "folder", "path": folder / "photos", "captions": folder / "captions.jsonl"})
    (folder / "photos").chmod(0)
    with unprivileged(), pytest.raises(UserError, match="photos may not be read"):
        read({"type": "folder", "path": folder / "photos"})
    folder.chmod(0)
    with unprivileged(), pytest.raises(UserError, match="does not exist or is not seen"):
        read({"type": "folder", "path": folder / "photos"})


def test_tars_that_may_not_be_read_are_one_reject_each(open_folder):
    fill(open_folder, {"x/a.tar": b"", "closed/b.tar": b"", "unsearchable/c.tar": b"", "explicit/d.tar": b""})
    (open_folder / "x/a.tar").chmod(0)
    for name, mode in (("closed", 0), ("unsearchable", 0o744), ("explicit", 0)):
        (open_folder / name).chmod(mode)
    fill(open_folder, {"deep/y/z/e.tar": b""})
    (open_folder / "deep/y").chmod(0o744)
    paths = [f"{open_folder}/*/*.tar", f"{open_folder}/explicit/d.tar", f"{open_folder}/deep/*/*/e.tar"]
    source = {"type": "webdataset", "name": "s", "paths": paths}
    config = CurateConfig(sources=[source], resolutions=[32], token_px=8)
    with unprivileged():
        units = list_units(config.sources, Path("/"))
        items = [item for unit in units for item in read_unit(unit, config.sources[0], config)]
    assert {item.refusal.reason for item in items} == {Reason.PERMISSION}
    shards = {os.path.relpath(unit.shard, open_folder) for unit in units}
    assert shards == {"x/a.tar", "closed", "unsearchable/c.tar", "explicit", "explicit/d.tar", "deep/y"}
