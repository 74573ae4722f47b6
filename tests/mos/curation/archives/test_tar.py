import gzip
import io
import random
import tarfile
import zipfile
from collections import Counter

import pytest

from mos.curation.archives.tar import read_tar
from mos.curation.config import ShardLimits
from mos.images.reasons import Notice, Reason, ShardBrokenError
from tests.mos.curation.archives.tars import (
    COMPRESSIONS,
    LIMITS,
    SAMPLE,
    make_tar,
    members_of,
    names,
    noise,
    sample,
    zstd,
)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_the_standard_library_writes(tmp_path, format):
    members, broken = members_of(tmp_path, make_tar(SAMPLE, format))
    assert broken is None
    assert {member.name: member.data for member in members} == SAMPLE


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_reads_compressed_archives(tmp_path, compress):
    members, broken = members_of(tmp_path, compress(make_tar(SAMPLE)))
    assert broken is None
    assert {member.name: member.data for member in members} == SAMPLE


def test_unwanted_members_are_not_read(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(make_tar(SAMPLE))
    data = {member.name: member.data for member in read_tar(str(path), LIMITS, lambda name, size: name == "e.png")}
    assert data == dict.fromkeys(SAMPLE) | {"e.png": SAMPLE["e.png"]}


@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS])
def test_a_cut_anywhere_keeps_what_came_before(tmp_path, compress):
    whole = compress(make_tar(SAMPLE))
    names = list(SAMPLE)
    rng = random.Random(0)
    for cut in rng.sample(range(1, len(whole)), 60):
        members, broken = members_of(tmp_path, whole[:cut])
        assert [member.name for member in members] == names[: len(members)]
        # a cut behind the end marker takes nothing away
        assert broken.reason == Reason.SHARD_TRUNCATED if broken else len(members) == len(names)


def test_damage_never_escapes(tmp_path):
    rng = random.Random(0)
    for compress in (bytes, *COMPRESSIONS):
        whole = compress(make_tar(SAMPLE))
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            members_of(tmp_path, bytes(data))


def special(kind: bytes, name: str = "b.jpg", link: str = "/etc/passwd") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        tar.addfile(info)
        after = tarfile.TarInfo("z.jpg")
        after.size = 1
        tar.addfile(after, io.BytesIO(b"z"))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused_alone(tmp_path, kind):
    members, broken = members_of(tmp_path, special(kind))
    assert broken is None
    assert members[0].refusal.reason == Reason.MEMBER_NOT_REGULAR
    assert members[0].data is None
    assert members[1].data == b"z"


def test_directories_are_no_members(tmp_path):
    members, broken = members_of(tmp_path, special(tarfile.DIRTYPE, "folder"))
    assert broken is None
    assert [member.name for member in members] == ["z.jpg"]


@pytest.mark.parametrize("name", ["/etc/passwd.jpg", "../a.jpg", "a/../../b.jpg", "..", "C:\\a.jpg", "a\\..\\b.jpg"])
def test_unsafe_names_are_refused_alone(tmp_path, name):
    members, broken = members_of(tmp_path, make_tar({name: b"x", "z.jpg": b"z"}))
    assert broken is None
    assert members[0].refusal.reason == Reason.MEMBER_UNSAFE_NAME
    assert members[1].data == b"z"


def test_names_that_are_not_utf8_are_refused_alone(tmp_path):
    data = bytearray(make_tar({"aéa.jpg": b"x", "z.jpg": b"z"}, tarfile.USTAR_FORMAT))
    members, _ = members_of(tmp_path, bytes(data))
    assert members[0].name == "aéa.jpg"
    position = data.index("é".encode())
    checksum = int(data[148:154], 8) - data[position + 1] + 0x20
    data[position + 1] = 0x20
    data[148:156] = b"%06o\0 " % checksum
    members, broken = members_of(tmp_path, bytes(data))
    assert broken is None
    assert members[0].refusal.reason == Reason.MEMBER_UNSAFE_NAME


def test_long_names_are_refused_alone(tmp_path):
    members, broken = members_of(tmp_path, make_tar({"k" * 10_000 + ".jpg": b"x", "z.jpg": b"z"}))
    assert broken is None
    assert members[0].refusal.reason == Reason.MEMBER_NAME_TOO_LONG
    assert members[1].data == b"z"


def test_huge_extension_headers_are_not_read(tmp_path):
    members, broken = members_of(tmp_path, make_tar({"a.jpg": b"x", "k" * (2 << 20): b"x"}))
    assert [member.name for member in members] == ["a.jpg"]
    assert broken.reason == Reason.SHARD_UNREADABLE


def test_caps_end_the_shard(tmp_path):
    many = make_tar({f"{number}.txt": b"x" * 100 for number in range(20)})
    members, broken = members_of(tmp_path, many, ShardLimits(max_members=5))
    assert (len(members), broken.reason) == (5, Reason.SHARD_TOO_LARGE)
    members, broken = members_of(tmp_path, many, ShardLimits(max_bytes=10_000))
    assert 0 < len(members) < 20
    assert broken.reason == Reason.SHARD_TOO_LARGE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.SHARD_TRUNCATED),
        (b"<html>" * 200, Reason.SHARD_UNREADABLE),
        (b"\x1f\x8b" + b"junk" * 300, Reason.SHARD_UNREADABLE),
        (b"BZh9" + b"junk" * 300, Reason.SHARD_UNREADABLE),
        (b"\xfd7zXZ\0" + b"junk" * 300, Reason.SHARD_UNREADABLE),
    ],
)
def test_what_is_no_tar_ends_in_one_verdict(tmp_path, data, reason):
    members, broken = members_of(tmp_path, data)
    assert members == []
    assert broken.reason == reason


def test_a_shard_that_went_away_is_a_verdict(tmp_path):
    with pytest.raises(ShardBrokenError) as caught:
        list(read_tar(str(tmp_path / "gone.tar"), LIMITS, lambda name, size: True))
    assert caught.value.reason == Reason.SHARD_UNREADABLE


def test_reads_through_fsspec():
    import fsspec

    with fsspec.open("memory://shards/a.tar", "wb") as stream:
        stream.write(make_tar(SAMPLE))
    members = list(read_tar("memory://shards/a.tar", LIMITS, lambda name, size: True))
    assert {member.name: member.data for member in members} == SAMPLE


def test_many_joined_archives_of_any_padding_are_read(tmp_path):
    parts = [make_tar(sample(number, 1))[: 512 + 3072 + padding] for number, padding in enumerate([1024, 1536, 4096])]
    members, broken = members_of(tmp_path, b"".join(parts) + make_tar(sample(3, 1)))
    assert (len(members), broken) == (4, None)


@pytest.mark.parametrize("shift", [1, 100, 511])
def test_an_archive_joined_to_one_cut_in_its_padding_is_read(tmp_path, shift):
    members, broken = members_of(tmp_path, make_tar(sample(0, 2))[:-shift] + make_tar(sample(2, 2)))
    assert (len(members), broken) == (4, None)


@pytest.mark.parametrize("rest", [b"x", b"<html>" * 200, noise(100_000)])
@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS])
def test_what_follows_the_end_is_measured(tmp_path, compress, rest):
    members, broken = members_of(tmp_path, compress(make_tar(sample(0, 3))) + rest)
    assert len(members) == 3
    assert broken.reason == Reason.SHARD_TRAILING_DATA
    assert f"{len(rest)} bytes" in broken.detail


def test_what_follows_the_end_inside_the_compressed_data_is_measured_and_named(tmp_path):
    for compress in COMPRESSIONS:
        members, broken = members_of(tmp_path, compress(make_tar(sample(0, 3)) + b"PK\x03\x04" + noise(5000)))
        assert len(members) == 3
        assert broken.reason == Reason.SHARD_TRAILING_DATA
        assert "5004 bytes" in broken.detail
        assert "a zip archive" in broken.detail


def body(members: dict[str, bytes]) -> bytes:
    """Members without an end."""
    return make_tar(members, tarfile.USTAR_FORMAT)[: sum(512 + -(-len(data) // 512) * 512 for data in members.values())]


@pytest.mark.parametrize(("blocks", "told"), [(1, 1), (2, 0), (3, 0), (21, 0)])
def test_zero_blocks_between_members_are_passed_over(tmp_path, blocks, told):
    notices = Counter()
    data = body(sample(0, 2)) + bytes(512 * blocks) + make_tar(sample(2, 3))
    members, broken = members_of(tmp_path, data, notices=notices)
    assert (len(members), broken) == (5, None)
    assert notices[Notice.LONE_ZERO_BLOCK] == told


def test_every_lone_zero_block_is_counted(tmp_path):
    notices = Counter()
    data = b"".join(body(sample(number, 1)) + bytes(512) for number in range(4))
    members, broken = members_of(tmp_path, data, notices=notices)
    assert (len(members), broken) == (4, None)
    assert notices[Notice.LONE_ZERO_BLOCK] == 4, "the last ends the file, where two should"


def test_a_hole_inside_a_shard_is_told_and_passed(tmp_path):
    data = body(sample(0, 2)) + bytes(512 * 100) + make_tar(sample(2, 3))
    members, broken = members_of(tmp_path, data)
    assert names(members) == ["0.jpg", "1.jpg", "(shard)", "2.jpg", "3.jpg", "4.jpg"]
    assert members[2].refusal.reason == Reason.SHARD_TRUNCATED
    assert "51200 zero bytes" in members[2].refusal.detail
    assert broken is None


@pytest.mark.parametrize("size", [300, 3000, 30_000])
def test_zeros_in_the_place_of_the_second_half_are_a_cut(tmp_path, size):
    """What a crash leaves of a file that was allocated before it was written."""
    whole = make_tar(sample(0, 40, size))
    for share in (0.1, 0.37, 0.5, 0.7):
        start = int(len(whole) * share)
        members, broken = members_of(tmp_path, whole[:start] + bytes(len(whole) - start))
        assert 0 < len(members) < 40
        assert broken.reason == Reason.SHARD_TRUNCATED


def test_zeros_from_anywhere_on_are_a_cut(tmp_path):
    whole = make_tar(sample(0, 30, 2000), tarfile.PAX_FORMAT)
    size = len(whole)
    rng = random.Random(0)
    for start in rng.sample(range(600, size - 40_000), 200):
        members, broken = members_of(tmp_path, whole[:start] + bytes(size - start))
        assert broken is not None, start
        assert broken.reason == Reason.SHARD_TRUNCATED
        assert len(members) <= -(-start // 2560)


@pytest.mark.parametrize("num_bytes", [2**16, 2**20, 3 * 2**20, 10**6, 10**7])
def test_a_file_allocated_larger_than_it_was_written_is_a_cut(tmp_path, num_bytes):
    """Whole members, and then nothing but zeros: the rest of the samples may never have been written."""
    start = body(sample(0, 10))
    members, broken = members_of(tmp_path, start + bytes(num_bytes - len(start)))
    assert len(members) == 10
    assert broken.reason == Reason.SHARD_TRUNCATED


@pytest.mark.parametrize("record", [512, 1024, 10_240, 1 << 16, 1 << 20])
def test_the_padding_of_any_record_is_an_end(tmp_path, record):
    """As `tar --record-size` writes it."""
    data = body(sample(0, 800 if record > 10_240 else 5)) + bytes(1024)
    members, broken = members_of(tmp_path, data + bytes(-len(data) % record))
    assert (len(members) in (5, 800), broken) == (True, None)


def test_an_empty_archive_has_no_members(tmp_path):
    assert members_of(tmp_path, make_tar({})) == ([], None)
    assert members_of(tmp_path, bytes(1024)) == ([], None)


def test_damage_in_the_middle_says_how_much_is_lost(tmp_path):
    data = bytearray(make_tar(sample(0, 10)))
    position = 3 * (512 + 3072)
    data[position + 5] ^= 0xFF
    members, broken = members_of(tmp_path, bytes(data))
    assert len(members) == 3
    assert broken.reason == Reason.SHARD_UNREADABLE
    assert f"{len(data) - position - 512} bytes from byte {position + 512} on are not read" in broken.detail


def test_as_many_members_as_the_cap_are_whole(tmp_path):
    members, broken = members_of(tmp_path, make_tar(sample(0, 5)), ShardLimits(max_members=5))
    assert (len(members), broken) == (5, None)


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.jpg", b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (a_zip(), "a zip archive, no tar: unpack it"),
        (b"7z\xbc\xaf'\x1c" + noise(2000), "a 7z archive, no tar: unpack it"),
        (b"Rar!\x1a\x07\x01\0" + noise(2000), "a rar archive"),
        (b"070701" + b"0" * 1000, "a cpio archive"),
        (b"070707" + b"0" * 1000, "a cpio archive"),
        (b"\xc7\x71" + noise(1000), "a cpio archive"),
        (b"!<arch>\n" + noise(1000), "an ar archive"),
        (b"PAR1" + noise(1000), "a Parquet file"),
        (b"\x1f\x9d\x90" + noise(1000), "packed by `compress`, no tar: compress the tar with zstd"),
        (b"LZIP\x01" + noise(1000), "lzip data"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "run `git lfs pull`"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page, no tar: fetch"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (b"\xff\xd8\xff\xe0" + noise(2000), "a JPEG picture"),
        (gzip.compress(a_zip()), "a zip archive"),
        (zstd(a_zip()), "a zip archive"),
        (noise(3000), "checksum is wrong"),
    ],
)
def test_what_stands_in_the_place_of_a_tar_is_named(tmp_path, data, sentence):
    members, broken = members_of(tmp_path, data)
    assert members == []
    assert broken.reason == Reason.SHARD_UNREADABLE
    assert sentence in broken.detail
