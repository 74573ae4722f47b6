import bz2
import gzip
import io
import lzma
import random
import tarfile

import pytest

from mos.data.curation import ShardLimits
from mos.data.reasons import Reason
from mos.data.tar import ShardBrokenError, read_tar

LIMITS = ShardLimits()


def make_tar(members: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def members_of(tmp_path, data: bytes, limits: ShardLimits = LIMITS):
    """The members before the end or the break, and the break."""
    path = tmp_path / "shard.tar"
    path.write_bytes(data)
    members: list = []
    try:
        for member in read_tar(str(path), limits, lambda name, size: True):
            members.append(member)  # noqa: PERF402 - what came before an error counts
    except ShardBrokenError as broken:
        return members, broken
    return members, None


SAMPLE = {
    "a.jpg": b"x" * 1000,
    "deep/er/b.txt": b"",
    "c" * 90 + ".txt": b"caption",
    "d" * 180 + ".json": b"{}",
    "ünï/ço∂é.txt": b"text",
    "e.png": b"y" * 512,
}


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_the_standard_library_writes(tmp_path, format):
    members, broken = members_of(tmp_path, make_tar(SAMPLE, format))
    assert broken is None
    assert {member.name: member.data for member in members} == SAMPLE


def test_reads_old_archives_with_a_name_prefix(tmp_path):
    sample = {"folder/" * 20 + "a.jpg": b"x", "b.jpg": b"y"}
    members, broken = members_of(tmp_path, make_tar(sample, tarfile.USTAR_FORMAT))
    assert broken is None
    assert {member.name: member.data for member in members} == sample


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_reads_compressed_archives(tmp_path, compress):
    members, broken = members_of(tmp_path, compress(make_tar(SAMPLE)))
    assert broken is None
    assert {member.name: member.data for member in members} == SAMPLE


def test_unwanted_members_are_not_read(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(make_tar(SAMPLE))
    data = {member.name: member.data for member in read_tar(str(path), LIMITS, lambda name, size: name == "e.png")}
    assert data == dict.fromkeys(SAMPLE) | {"e.png": SAMPLE["e.png"]}


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
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
    for whole in (make_tar(SAMPLE), gzip.compress(make_tar(SAMPLE)), lzma.compress(make_tar(SAMPLE))):
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


def test_an_archive_bomb_is_stopped_early(tmp_path):
    bomb = gzip.compress(make_tar({"a.txt": b"caption", "bomb.jpg": bytes(80 * 2**20), "z.txt": b"z"}), 6)
    assert len(bomb) < 2**20
    members, broken = members_of(tmp_path, bomb)
    assert [member.name for member in members] == ["a.txt"]
    assert broken.reason == Reason.SHARD_TOO_LARGE


def test_a_claimed_size_is_not_believed(tmp_path):
    header = bytearray(make_tar({"a.jpg": b"x"}, tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + (2**60).to_bytes(11, "big")
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:512]))
    members, broken = members_of(tmp_path, bytes(header))
    assert members == []
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
