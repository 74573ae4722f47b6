from collections import Counter
from pathlib import Path

import pytest

from mos.curation.config import CurateConfig
from mos.curation.items import Item
from mos.curation.shards import read_unit
from mos.curation.sources import Unit
from mos.images.reasons import Notice, Reason
from tests.mos.curation.shard_reading import fates, members_alone, pairs, read_shard, scattered, write


@pytest.mark.parametrize("kind", ["jpg", "txt", "json"])
def test_a_last_member_that_ends_in_zeros_is_a_cut(tmp_path, kind):
    body = {"jpg": b"\xff\xd8\xff" + b"x" * 600, "txt": b"a cat on a mat", "json": b'{"caption": "a cat"}'}
    cut = body[kind][: len(body[kind]) // 2] + bytes(len(body[kind]) - len(body[kind]) // 2)
    image = [] if kind == "jpg" else [("b.jpg", body["jpg"])]
    members = [("a.jpg", b"a"), ("a.txt", b"a cat"), *image, (f"b.{kind}", cut)]
    items, _ = read_shard(write(tmp_path / "a.tar", members))
    assert fates(items) == [("a", None), ("b", Reason.SHARD_TRUNCATED)]


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


JPEG = b"\xff\xd8\xff" + b"x" * 600


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("b.jpg", JPEG + bytes(15), None),
        ("b.jpg", JPEG + bytes(16), Reason.SHARD_TRUNCATED),
        ("b.png", b"\x89PNG" + bytes(600), Reason.SHARD_TRUNCATED),
        ("b.png", b"\x89PNGxIEND\xaeB`\x82" + bytes(600), None),
        ("b.bmp", b"BM" + bytes(600), None),
        ("b.tiff", b"II*" + bytes(600), None),
        ("b.txt", b"a cat\0\0\0", Reason.CAPTION_CONTROL),
        ("b.txt", b"a cat\0\0\0\0", Reason.SHARD_TRUNCATED),
        ("b.txt", b"", Reason.CAPTION_EMPTY),
        ("b.pkl", bytes(600), Reason.MEMBER_TYPE_REFUSED),
    ],
)
def test_zeros_at_the_end_of_the_last_file_are_a_cut_where_they_cannot_belong_to_it(tmp_path, name, data, reason):
    other = ("b.jpg", JPEG) if name == "b.txt" else ("b.txt", b"a dog")
    path = write(tmp_path / "a.tar", [*pairs(1), other, (name, data)])
    assert fates(read_shard(path, image={"extra_formats": ["bmp", "tiff"]})[0]) == [("0", None), ("b", reason)]


@pytest.mark.parametrize(("num_zeros", "reason"), [(0, None), (1, Reason.SHARD_TRUNCATED)])
def test_one_zero_is_enough_where_more_follow_than_end_an_archive(tmp_path, num_zeros, reason):
    path = tmp_path / "a.tar"
    members = [*pairs(1), ("b.txt", b"a dog"), ("b.jpg", JPEG + bytes(num_zeros))]
    path.write_bytes(members_alone(path, members).ljust(2**16, b"\0"))
    assert fates(read_shard(path)[0]) == [("0", None), ("b", reason)]


def test_a_shard_that_something_else_follows_was_written_to_its_end(tmp_path):
    path = write(tmp_path / "a.tar", [*pairs(1), ("b.txt", b"a dog"), ("b.jpg", JPEG + b"\0")])
    path.write_bytes(path.read_bytes() + b"<html>" * 300)
    expected = [("0", None), ("b", None), ("(shard)", Reason.SHARD_TRAILING_DATA)]
    assert fates(read_shard(path)[0]) == expected


def folder_config(folder: Path) -> CurateConfig:
    return CurateConfig(sources=[{"type": "folder", "name": "photos", "path": folder}], resolutions=[32], token_px=8)


def test_a_unit_of_a_folder_gives_what_was_refused_before_what_was_listed(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "a.txt").write_text("a cat")
    config = folder_config(tmp_path)
    entries = ('{"key": "a", "files": ["a.jpg", "a.txt"]}', '{"key": "b", "files": ["b.jpg"]}')
    refused = (("closed/", "permission", "may not be listed"), ("linked/", "member_not_regular", "leads out"))
    unit = Unit(0, "photos", str(tmp_path), "id", entries, refused=refused, num_skipped=3)
    notices = Counter[Notice]()
    items = list(read_unit(unit, config.sources[0], config, notices))
    assert [(item.place, *fate) for item, fate in zip(items, fates(items), strict=True)] == [
        (0, "closed/", Reason.PERMISSION),
        (1, "linked/", Reason.MEMBER_NOT_REGULAR),
        (2, "a", None),
        (3, "b", Reason.FILE_UNREADABLE),
    ]
    assert items[0].refusal.detail == "may not be listed"
    assert items[2] == Item("a", b"a", None, "a cat", place=2)
    assert notices == {Notice.SYSTEM_FILE: 3}


def test_a_shard_that_went_away_is_one_verdict(tmp_path):
    config = CurateConfig(
        sources=[{"type": "webdataset", "name": "s", "paths": ["*.tar"]}], resolutions=[32], token_px=8
    )
    (item,) = read_unit(Unit(0, "s", str(tmp_path / "gone.tar"), "id"), config.sources[0], config)
    assert fates([item]) == [("(shard)", Reason.SHARD_UNREADABLE)]
    assert "gone.tar" in item.refusal.detail


def test_an_oversized_member_takes_its_sample_alone(tmp_path):
    path = write(tmp_path / "a.tar", [("a.jpg", b"x" * 21), ("a.txt", b"a cat"), ("b.jpg", b"x" * 20), ("b.txt", b"b")])
    items, _ = read_shard(path, image={"max_bytes": 20})
    assert fates(items) == [("a", Reason.MEMBER_TOO_LARGE), ("b", None)]
    assert items[0].image is None
