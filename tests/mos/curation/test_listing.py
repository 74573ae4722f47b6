import os
from pathlib import Path

import pytest
from fsspec.registry import known_implementations

from mos.curation.listing import ListedFile, file_system, hub_blobs, is_inside, list_folder, local_file, remote_file
from mos.errors import UserError
from mos.images.reasons import Notice, Reason
from tests.mos.curation.folder_reading import fates, fill, jsonl, read


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


def test_files_are_listed_by_name_with_their_sizes(tmp_path):
    folder = fill(tmp_path, {"b/a.jpg": "abc", "b.jpg": "", "a.txt": "a cat"})
    listing = list_folder(str(folder), "photos", ())
    assert [(file.name, file.size) for file in listing.files] == [("a.txt", 5), ("b.jpg", 0), ("b/a.jpg", 3)]
    assert (listing.refused, listing.num_skipped) == ([], 0)


def test_folders_in_a_store_are_listed_alike():
    import fsspec

    for name in ("b/a.jpg", "b.jpg", "Thumbs.db", "__MACOSX/a.jpg"):
        with fsspec.open(f"memory://listed/{name}", "wb") as stream:
            stream.write(b"abc")
    listing = list_folder("memory://listed", "photos", ())
    assert [(file.name, file.size) for file in listing.files] == [("b.jpg", 3), ("b/a.jpg", 3)]
    assert listing.num_skipped == 2


@pytest.mark.parametrize("name", ["gone", "a.jpg"])
def test_a_folder_that_is_none_is_named_with_its_source(tmp_path, name):
    fill(tmp_path, {"a.jpg": "a"})
    sentence = f"source 'photos': folder {tmp_path}/{name} does not exist or is not seen: correct its `path`"
    with pytest.raises(UserError, match=sentence):
        list_folder(f"{tmp_path}/{name}", "photos", ())


def test_a_link_out_of_the_folder_says_where_it_leads(tmp_path):
    fill(tmp_path, {"store/a.jpg": "a", "photos/b.jpg": "b"})
    (tmp_path / "photos/linked").symlink_to(tmp_path / "store")
    listing = list_folder(f"{tmp_path}/photos", "photos", ())
    sentence = f"linked is a link to {tmp_path}/store, out of its folder: name a folder above that in the source's "
    assert listing.refused == [("linked/", Reason.MEMBER_NOT_REGULAR, sentence + "`follow_links`")]
    assert [file.name for file in listing.files] == ["b.jpg"]


def test_a_link_has_the_size_and_the_stamp_of_what_it_leads_to(tmp_path):
    fill(tmp_path, {"store.jpg": "abc"})
    (tmp_path / "a.jpg").symlink_to("store.jpg")
    os.utime(tmp_path / "store.jpg", ns=(5, 7))
    assert local_file(str(tmp_path / "a.jpg"), "a.jpg") == ListedFile("a.jpg", 3, "7")
    (tmp_path / "store.jpg").unlink()
    dead = local_file(str(tmp_path / "a.jpg"), "a.jpg")
    assert dead.size == len("store.jpg")
    assert dead.stamp != "7"


@pytest.mark.parametrize(
    ("info", "size", "stamp"),
    [
        ({"size": 3, "ETag": "e1", "LastModified": "today"}, 3, "e1"),
        ({"size": 3, "etag": "e2"}, 3, "e2"),
        ({"size": 3, "mtime": 17.5}, 3, "17.5"),
        ({"size": 3, "LastModified": "today"}, 3, "today"),
        ({"size": None}, 0, ""),
    ],
)
def test_an_object_is_stamped_by_what_its_store_tells(info, size, stamp):
    assert remote_file("a.jpg", info) == ListedFile("a.jpg", size, stamp)


@pytest.mark.parametrize(
    ("path", "roots", "inside"),
    [
        ("/data/a", ("/data",), True),
        ("/data", ("/data",), True),
        ("/data-2/a", ("/data",), False),
        ("/data", ("/data/a",), False),
        ("/store/a", ("/data", "/store"), True),
        ("/data/a", ("/data/",), True),
        ("/data", ("/",), True),
        ("/data", (), False),
    ],
)
def test_a_path_lies_inside_whole_folders_alone(path, roots, inside):
    assert is_inside(path, roots) is inside


@pytest.mark.parametrize("repository", ["datasets--someone--pictures", "models--a--b", "spaces--a--b"])
def test_only_a_snapshot_of_the_hub_leads_to_blobs(tmp_path, repository):
    blobs = tmp_path / repository / "blobs"
    snapshot = tmp_path / repository / "snapshots/0123abc"
    (snapshot / "train").mkdir(parents=True)
    assert hub_blobs(str(snapshot)) == ()
    blobs.mkdir()
    assert hub_blobs(str(snapshot)) == hub_blobs(str(snapshot / "train")) == (str(blobs),)
    assert hub_blobs(str(snapshot.parent)) == ()
    (tmp_path / "other/snapshots/0123abc").mkdir(parents=True)
    (tmp_path / "other/blobs").mkdir()
    assert hub_blobs(str(tmp_path / "other/snapshots/0123abc")) == ()


def test_addresses_that_nothing_here_reads_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {"class": "no_such_package.Files", "err": "Install no_such_package"}
    monkeypatch.setitem(known_implementations, "lacking", lacking)
    with pytest.raises(UserError, match=r"lacking://a cannot be read \(Install no_such_package\): install the package"):
        list_folder("lacking://a", "photos", ())
    with pytest.raises(UserError, match=r"nowhere://a/\*\.tar cannot be read .* correct the address"):
        file_system("nowhere://a/*.tar")
