import os
import shutil
import tempfile
from pathlib import Path

import pytest

from mos.curation.config import CurateConfig
from mos.curation.shards import read_unit
from mos.curation.sources import inventory_id, list_units
from mos.errors import UserError
from mos.images.reasons import Reason
from tests.mos.curation.folder_reading import fates, fill, jsonl, lines, read
from tests.unprivileged import unprivileged


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


def test_a_changed_file_behind_a_link_changes_the_inventory(tmp_path):
    fill(tmp_path, {"store/a.jpg": "a", "photos/a.txt": "a cat"})
    (tmp_path / "photos/a.jpg").symlink_to(tmp_path / "store/a.jpg")
    settings = {"type": "folder", "name": "s", "path": tmp_path / "photos", "follow_links": [tmp_path / "store"]}
    config = CurateConfig(sources=[settings], resolutions=[32], token_px=8)
    before = inventory_id(list_units(config.sources, tmp_path))
    (tmp_path / "store/a.jpg").write_bytes(b"another")
    assert inventory_id(list_units(config.sources, tmp_path)) != before


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
