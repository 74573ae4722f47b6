import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from mos.curation.config import CurateConfig
from mos.curation.items import Item
from mos.curation.pairing import split_name
from mos.curation.shards import read_unit
from mos.curation.sources import list_units
from mos.images.reasons import Notice, Reason

MIB = 2**20


def read_shard(path: Path, type: str = "webdataset", **shard) -> tuple[list[Item], dict[Notice, int]]:
    """Every candidate of one tar in the order of their places, and what was counted apart."""
    config = CurateConfig(
        sources=[{"type": type, "name": "s", "paths": [path]}], resolutions=[32], token_px=8, shard=shard
    )
    notices = Counter[Notice]()
    (unit,) = list_units(config.sources, path.parent)
    items = list(read_unit(unit, config.sources[0], config, notices))
    assert len({item.place for item in items}) == len(items)
    return sorted(items, key=lambda item: item.place), dict(+notices)


def write(path: Path, members: list[tuple[str, bytes]], end: int | None = None) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(buffer.getvalue()[:end])
    return path


def fates(items: list[Item]) -> list[tuple[str, Reason | None]]:
    return [(item.key, item.refusal and item.refusal.reason) for item in items]


def scattered(num: int, size: int = 100, *kinds: str) -> list[tuple[str, bytes]]:
    """All members of one kind, then all of the next."""
    body = {"jpg": b"\xff\xd8\xff" + b"x" * size, "txt": b"a caption", "json": b'{"caption": "told", "id": 7}'}
    return [(f"{number}.{kind}", body[kind]) for kind in kinds or ("jpg", "txt") for number in range(num)]


@pytest.mark.parametrize(
    "kinds", [("jpg", "txt"), ("txt", "jpg"), ("jpg", "json"), ("jpg", "txt", "json"), ("json", "jpg", "txt")]
)
def test_samples_whose_members_stand_apart_are_paired(tmp_path, kinds):
    items, notices = read_shard(write(tmp_path / "a.tar", scattered(5, 100, *kinds)))
    assert fates(items) == [(str(number), None) for number in range(5)]
    assert all(item.image and item.caption for item in items)
    assert all((item.meta == '{"caption": "told", "id": 7}') == (len(kinds) == 3) for item in items)
    assert notices == {}


@pytest.mark.parametrize("kinds", [("source.png", "target.png", "json"), ("json", "target.png", "source.png")])
def test_edits_whose_members_stand_apart_are_paired(tmp_path, kinds):
    body = {"json": b'{"instruction": "make it blue"}', "source.png": b"one", "target.png": b"two"}
    members = [(f"{number}.{kind}", body[kind]) for kind in kinds for number in range(4)]
    items, _ = read_shard(write(tmp_path / "a.tar", members), "edits")
    assert fates(items) == [(str(number), None) for number in range(4)]
    assert {(item.reference, item.image) for item in items} == {(b"one", b"two")}


def test_beyond_the_window_each_sample_has_one_verdict_that_says_what_to_do(tmp_path):
    items, notices = read_shard(write(tmp_path / "a.tar", scattered(40, 20_000)), window_bytes=210_000)
    assert [item.key for item in items] == [str(number) for number in range(40)]
    kept = [item for item in items if item.refusal is None]
    assert len(kept) == 9
    lost = [item.refusal for item in items if item.refusal]
    assert {refusal.reason for refusal in lost} == {Reason.KEY_NOT_ADJACENT}
    assert all("tar --sort=name" in refusal.detail for refusal in lost)
    assert notices == {}


def test_texts_before_images_need_no_large_window(tmp_path):
    items, _ = read_shard(write(tmp_path / "a.tar", scattered(40, 20_000, "txt", "jpg")), window_bytes=100_000)
    assert all(item.refusal is None for item in items)
    assert len(items) == 40


def test_a_sample_that_never_completes_is_counted_once(tmp_path):
    members = scattered(5)
    del members[7]
    for window in (MIB, 0):
        items, _ = read_shard(write(tmp_path / "a.tar", members), window_bytes=window)
        assert [item.key for item in items] == [str(number) for number in range(5)]
        assert items[2].refusal.reason == Reason.CAPTION_MISSING


def test_an_extra_that_comes_too_late_is_counted_apart(tmp_path):
    members = [("a.jpg", b"a"), ("a.txt", b"a cat"), ("b.jpg", b"b"), ("b.txt", b"a dog"), ("a.json", b"{}")]
    items, notices = read_shard(write(tmp_path / "a.tar", members))
    assert fates(items) == [("a", None), ("b", None)]
    assert notices == {Notice.LATE_MEMBER: 1}


def test_each_copy_of_a_sample_is_one_reject(tmp_path):
    one = [("a.jpg", b"a"), ("a.txt", b"a cat"), ("b.jpg", b"b"), ("b.txt", b"a dog")]
    items, _ = read_shard(write(tmp_path / "a.tar", one * 3))
    assert Counter(fates(items)) == {
        ("a", None): 1,
        ("b", None): 1,
        ("a", Reason.KEY_DUPLICATE): 2,
        ("b", Reason.KEY_DUPLICATE): 2,
    }
    items, _ = read_shard(write(tmp_path / "a.tar", scattered(3) * 2))
    assert Counter(reason for _, reason in fates(items)) == {None: 3, Reason.KEY_DUPLICATE: 3}


def test_a_refused_sample_is_counted_once_wherever_its_members_stand(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name, data in (("b.jpg", b"b"), ("a.txt", b"a cat"), ("b.txt", b"a dog")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    assert fates(read_shard(tmp_path / "a.tar")[0]) == [("a", Reason.MEMBER_NOT_REGULAR), ("b", None)]


def test_a_cut_among_the_images_takes_every_sample_once(tmp_path):
    items, _ = read_shard(write(tmp_path / "a.tar", scattered(5), end=3 * 1024 + 600))
    assert fates(items) == [(str(number), Reason.SHARD_TRUNCATED) for number in range(4)]


def test_a_cut_among_the_texts_takes_those_that_had_none_yet(tmp_path):
    items, _ = read_shard(write(tmp_path / "a.tar", scattered(5), end=(5 + 2) * 1024 + 515))
    expected = [None, None, *[Reason.SHARD_TRUNCATED] * 3]
    assert [reason for _, reason in fates(items)] == expected


def test_a_missing_caption_stays_one_where_the_shard_is_cut_later(tmp_path):
    members = [("a.jpg", b"a"), ("a.txt", b"a cat"), ("b.jpg", b"b"), ("c.jpg", b"c"), ("c.txt", b"a dog")]
    items, _ = read_shard(write(tmp_path / "a.tar", members, end=4 * 1024 + 514))
    assert fates(items) == [("a", None), ("b", Reason.CAPTION_MISSING), ("c", Reason.SHARD_TRUNCATED)]


def test_what_follows_the_archive_is_no_fault_of_its_last_sample(tmp_path):
    path = write(tmp_path / "a.tar", [("a.jpg", b"a"), ("a.txt", b"a cat"), ("b.jpg", b"b")])
    path.write_bytes(path.read_bytes() + b"<html>" * 300)
    items, _ = read_shard(path)
    assert fates(items) == [
        ("a", None),
        ("b", Reason.CAPTION_MISSING),
        ("(shard)", Reason.SHARD_TRAILING_DATA),
    ]
    assert "1800 bytes" in items[-1].refusal.detail


@pytest.mark.parametrize("kind", ["jpg", "txt", "json"])
def test_a_last_member_that_ends_in_zeros_is_a_cut(tmp_path, kind):
    body = {"jpg": b"\xff\xd8\xff" + b"x" * 600, "txt": b"a cat on a mat", "json": b'{"caption": "a cat"}'}
    cut = body[kind][: len(body[kind]) // 2] + bytes(len(body[kind]) - len(body[kind]) // 2)
    image = [] if kind == "jpg" else [("b.jpg", body["jpg"])]
    members = [("a.jpg", b"a"), ("a.txt", b"a cat"), *image, (f"b.{kind}", cut)]
    items, _ = read_shard(write(tmp_path / "a.tar", members))
    assert fates(items) == [("a", None), ("b", Reason.SHARD_TRUNCATED)]


def test_every_hole_in_a_shard_is_one_verdict(tmp_path):
    path = tmp_path / "a.tar"
    whole = write(path, [("a.jpg", b"a"), ("a.txt", b"a cat"), ("b.jpg", b"b"), ("b.txt", b"a dog")]).read_bytes()
    path.write_bytes(whole[:1024] + bytes(30_720) + whole[1024:2048] + bytes(30_720) + whole[2048:])
    items, _ = read_shard(path)
    assert fates(items) == [
        ("a", None),
        ("(shard)", Reason.SHARD_TRUNCATED),
        ("(shard)", Reason.SHARD_TRUNCATED),
        ("b", None),
    ]


def pairs(num: int, size: int = 700) -> list[tuple[str, bytes]]:
    """Sound samples side by side, each of 2560 bytes in the tar."""
    image = b"\xff\xd8\xff" + b"x" * (size - 5) + b"\xff\xd9"
    return [(f"{number}.{kind}", data) for number in range(num) for kind, data in (("jpg", image), ("txt", b"a cat"))]


def members_alone(path: Path, members: list[tuple[str, bytes]]) -> bytes:
    """A tar up to the end of its last member."""
    size = sum(512 + -(-len(data) // 512) * 512 for _, data in members)
    return write(path, members).read_bytes()[:size]


@pytest.mark.parametrize("record", [2**15, 2**16, 2**20])
def test_a_small_shard_of_one_large_record_is_whole(tmp_path, record):
    """As `tar -b 128` writes it."""
    path = tmp_path / "a.tar"
    path.write_bytes(members_alone(path, pairs(5)).ljust(record, b"\0"))
    assert fates(read_shard(path)[0]) == [(str(number), None) for number in range(5)]


def test_two_records_at_the_end_are_whole(tmp_path):
    """As `tar --concatenate` leaves them."""
    path = tmp_path / "a.tar"
    path.write_bytes(members_alone(path, pairs(3)).ljust(20_480, b"\0"))
    assert fates(read_shard(path)[0]) == [(str(number), None) for number in range(3)]


@pytest.mark.parametrize("size", [10_240, 2**15, 2**16, 2**20])
def test_an_end_that_may_be_either_is_a_cut_where_the_last_sample_lacks_something(tmp_path, size):
    path = tmp_path / "a.tar"
    path.write_bytes(members_alone(path, pairs(4)[:-1]).ljust(size, b"\0"))
    items, _ = read_shard(path)
    last = Reason.CAPTION_MISSING if size == 10_240 else Reason.SHARD_TRUNCATED
    assert fates(items) == [*((str(number), None) for number in range(3)), ("3", last)]
    path.write_bytes(members_alone(path, scattered(4, 700)[:-2]).ljust(2**16, b"\0"))
    assert [reason for _, reason in fates(read_shard(path)[0])] == [None, None, *[Reason.SHARD_TRUNCATED] * 2]


def test_zeros_from_anywhere_on_are_told_once(tmp_path):
    """Every place where a writer may have been stopped, but where a whole shard could end in the same bytes."""
    path = tmp_path / "a.tar"
    whole = write(path, pairs(40)).read_bytes()
    for start in range(600, len(whole) - 24_000, 331):
        path.write_bytes(whole[:start] + bytes(len(whole) - start))
        items, _ = read_shard(path)
        kept = [item for item in items if item.refusal is None]
        assert len(kept) == start // 2560 or start % 2560 > 2048
        assert [item.refusal.reason for item in items[len(kept) :]] == [Reason.SHARD_TRUNCATED]


def test_a_picture_with_zeros_behind_its_end_is_whole(tmp_path):
    members = [("a.txt", b"a cat"), ("a.jpg", b"\xff\xd8\xff" + b"x" * 50 + b"\xff\xd9" + bytes(300))]
    assert fates(read_shard(write(tmp_path / "a.tar", members))[0]) == [("a", None)]


@pytest.mark.parametrize(
    "litter",
    [
        "._{}.jpg",
        "__MACOSX/._{}.jpg",
        "__MACOSX/{}.txt",
        ".DS_Store",
        "Thumbs.db",
        "folder/desktop.ini",
        "@eaDir/{}.jpg/SYNOPHOTO_THUMB_S.jpg",
        ".git/{}",
    ],
)
def test_files_of_operating_systems_are_no_samples(tmp_path, litter):
    """As macOS writes a tar: attributes of each file right before it."""
    members = []
    for number in range(5):
        for kind, data in (("jpg", b"x%d" % number), ("txt", b"a caption")):
            members += [(litter.format(number), b"\0\5\x16\7" + bytes(80)), (f"{number}.{kind}", data)]
    items, notices = read_shard(write(tmp_path / "a.tar", members))
    assert fates(items) == [(str(number), None) for number in range(5)]
    assert notices == {Notice.SYSTEM_FILE: 10}


def test_names_of_one_file_give_one_key(tmp_path):
    members = [
        ("./a.jpg", b"a"),
        ("a.txt", b"a cat"),
        ("x//b.jpg", b"b"),
        ("./x/b.txt", b"a dog"),
        ("cafe\u0301.jpg", b"c"),
        ("caf\u00e9.txt", b"a coffee"),
        ("c.jpg", b"d"),
        ("c.jpg.txt", b"named whole"),
        ("d.JPG", b"e"),
        ("d.jpg.json", json.dumps({"caption": "named whole"}).encode()),
    ]
    items, _ = read_shard(write(tmp_path / "a.tar", members))
    assert fates(items) == [("a", None), ("x/b", None), ("caf\u00e9", None), ("c", None), ("d", None)]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b.source.png", ("a/b", "source.png")),
        ("a.b/c.JPG", ("a.b/c", "jpg")),
        ("./a.jpg", ("a", "jpg")),
        (".hidden.jpg", (".hidden", "jpg")),
        ("...", ("...", "")),
        ("README", ("README", "")),
        ("../up.png", ("../up", "png")),
        ("/root.png", ("/root", "png")),
    ],
)
def test_a_name_is_a_key_and_a_component(name, parts):
    assert split_name(name) == parts
