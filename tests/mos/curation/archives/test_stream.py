import errno
import gzip
import io
import tarfile

import pytest

from mos.curation.archives.stream import ArchiveStream
from mos.curation.config import ShardLimits
from mos.images.reasons import Reason, ShardBrokenError
from tests.mos.curation.archives.tars import COMPRESSIONS, LIMITS, make_tar, members_of, names, noise, sample

MIB = 2**20


def stream(data: bytes, **limits) -> ArchiveStream:
    return ArchiveStream(io.BytesIO(data), ShardLimits(**limits))


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_an_archive_bomb_is_stopped_early(tmp_path, compress):
    bomb = compress(make_tar({"a.txt": b"caption", "bomb.jpg": bytes(80 * MIB), "z.txt": b"z"}))
    assert len(bomb) < MIB
    members, broken = members_of(tmp_path, bomb)
    assert names(members) == ["a.txt"]
    assert broken.reason == Reason.SHARD_TOO_LARGE


def test_a_claimed_size_is_not_believed(tmp_path):
    header = bytearray(make_tar({"a.jpg": b"x"}, tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + (2**60).to_bytes(11, "big")
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:512]))
    members, broken = members_of(tmp_path, bytes(header))
    assert members == []
    assert broken.reason == Reason.SHARD_TOO_LARGE


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_zeros_in_the_place_of_the_second_half_of_compressed_data_are_a_cut(tmp_path, compress):
    whole = compress(make_tar(sample(0, 200)))
    half = len(whole) // 2
    members, broken = members_of(tmp_path, whole[:half] + bytes(len(whole) - half))
    assert len(members) < 200
    assert broken.reason == Reason.SHARD_TRUNCATED


def test_a_member_may_have_a_name_that_other_formats_begin_with(tmp_path):
    members, broken = members_of(tmp_path, make_tar({"BZh.jpg": b"x", "PK\x03\x04": b"y"}))
    assert (names(members), broken) == (["BZh.jpg", "PK\x03\x04"], None)


@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS])
def test_reads_are_exact_and_counted(compress):
    plain = noise(600_000)
    archive = stream(compress(plain))
    assert archive.read(5) == plain[:5]
    archive.skip(500_000)
    assert archive.num_read == 500_005
    assert archive.read_up_to(50_000) == plain[500_005:550_005]
    assert archive.read_up_to(100_000) == plain[550_005:]
    assert archive.num_read == 600_000
    assert archive.read_up_to(1) == b""


def test_what_is_put_back_is_read_again():
    archive = stream(b"0123456789")
    assert archive.read(4) == b"0123"
    archive.put_back(b"23")
    archive.put_back(b"1")
    assert archive.num_read == 1
    assert archive.read(2) == b"12"
    assert archive.read_up_to(5) == b"34567"
    assert archive.read(2) == b"89"
    assert archive.num_read == 10


@pytest.mark.parametrize(
    ("member", "sentence"), [("a.jpg", "the shard ends inside a.jpg"), (None, "the shard ends without an end marker")]
)
@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS])
def test_fewer_bytes_than_asked_for_are_a_cut(compress, member, sentence):
    archive = stream(compress(b"0123456789"))
    archive.skip(7)
    with pytest.raises(ShardBrokenError) as caught:
        archive.read(4, member)
    found = caught.value
    assert (found.reason, found.detail, found.member) == (Reason.SHARD_TRUNCATED, sentence, member)


@pytest.mark.parametrize("num_zeros", [0, 1, 511, 512, 700, MIB, 3 * MIB + 77])
def test_zeros_are_passed_over_up_to_the_first_other_byte(num_zeros):
    archive = stream(b"x" + bytes(num_zeros) + b"end\0")
    archive.skip(1)
    assert archive.skip_zeros() == num_zeros
    assert archive.num_read == 1 + num_zeros
    assert archive.read(4) == b"end\0"
    assert archive.skip_zeros() == 0


@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS])
def test_what_follows_is_counted(compress):
    archive = stream(compress(noise(2 * MIB)))
    archive.skip(MIB - 5)
    archive.put_back(b"12345")
    assert archive.count_rest() == MIB + 10


def test_a_member_may_fill_the_cap_and_no_more():
    archive = stream(bytes(100), max_bytes=100)
    archive.skip(40)
    archive.reserve(60, "a.jpg")
    with pytest.raises(ShardBrokenError) as caught:
        archive.reserve(61, "a.jpg")
    found = caught.value
    assert (found.reason, found.detail, found.member) == (Reason.SHARD_TOO_LARGE, "101 bytes, at most 100", "a.jpg")


def test_a_small_archive_may_unpack_as_often_as_it_likes():
    archive = stream(gzip.compress(bytes(MIB)), max_ratio=2)
    archive.skip(MIB)
    assert archive.num_read == MIB


def test_the_ratio_is_told_with_its_cap():
    archive = stream(gzip.compress(bytes(66 * MIB)), max_ratio=500)
    with pytest.raises(ShardBrokenError, match=r"unpacks \d{3,4} times, at most 500$"):
        archive.skip(66 * MIB)


@pytest.mark.parametrize(("num_zeros", "sentence"), [(63, "ends early"), (64, "ends in 64 zero bytes: its writer was")])
def test_compressed_data_that_end_in_zeros_were_never_written_to_the_end(num_zeros, sentence):
    packed = gzip.compress(noise(5000), compresslevel=0)
    archive = stream(packed[:2500] + bytes(num_zeros))
    with pytest.raises(ShardBrokenError, match=sentence) as caught:
        archive.skip(5000, "a.jpg")
    assert (caught.value.reason, caught.value.member) == (Reason.SHARD_TRUNCATED, "a.jpg")


def test_damage_is_a_verdict_with_the_words_of_the_decompressor():
    packed = bytearray(gzip.compress(noise(5000)))
    packed[-8] ^= 1
    with pytest.raises(ShardBrokenError, match="incorrect data check") as caught:
        stream(bytes(packed)).skip(5001)
    assert caught.value.reason == Reason.SHARD_UNREADABLE


class FailingDisk(io.BytesIO):
    """A file whose first bytes alone can be read."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 1024:
            raise OSError(errno.EIO, "the disk failed")
        return super().read(size if size is None or size < 0 else min(size, 1024))


@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS])
def test_a_failing_disk_is_no_property_of_the_shard(compress):
    archive = ArchiveStream(FailingDisk(compress(noise(5000))), LIMITS)
    with pytest.raises(OSError, match="the disk failed") as caught:
        archive.skip(5000, "a.jpg")
    assert caught.value.errno == errno.EIO
