import io
import json
import tarfile
from collections import Counter

import pytest

from mos.curation.pairing import split_name
from mos.images.reasons import Notice, Reason
from tests.mos.curation.shard_reading import fates, read_shard, scattered, write

MIB = 2**20


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
