import bz2
import gzip
import io
import lzma
from collections import Counter

import pytest

from mos.curation.archives.compression import Source, len_from, len_zero_tail, open_compressed
from mos.images.reasons import Reason, ShardBrokenError
from tests.mos.curation.archives.tars import (
    COMPRESSIONS,
    SAMPLE,
    make_tar,
    members_of,
    names,
    noise,
    sample,
    zstd,
)

STREAMS = [gzip.compress, bz2.compress, lzma.compress]


def opened(data: bytes) -> Source:
    """The plain bytes of what is packed."""
    source = open_compressed(io.BytesIO(data))
    assert source is not None
    return source


def read_all(source: Source, size: int = 1000) -> bytes:
    """Everything, at most `size` bytes at once."""
    parts = []
    while part := source.read(size):
        assert len(part) <= size
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("second", [bytes, *COMPRESSIONS])
@pytest.mark.parametrize("first", [bytes, *COMPRESSIONS])
def test_joined_archives_are_read_or_measured(tmp_path, first, second):
    """`cat a.tar b.tar`: every member, or one verdict with the number of bytes that are left."""
    joined = second(make_tar(sample(5, 5)))
    notices = Counter()
    members, broken = members_of(tmp_path, first(make_tar(sample(0, 5))) + joined, notices=notices)
    packed = {gzip.compress, bz2.compress, lzma.compress}
    if first is second or {first, second} <= packed:
        assert names(members) == [f"{number}.jpg" for number in range(10)]
        assert broken is None
    else:
        assert names(members) == [f"{number}.jpg" for number in range(5)]
        assert broken.reason == Reason.SHARD_TRAILING_DATA
        assert f"{len(joined)} bytes" in broken.detail
    assert not +notices


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_zeros_behind_compressed_data_are_padding(tmp_path, compress):
    members, broken = members_of(tmp_path, compress(make_tar(sample(0, 3))) + bytes(100_000))
    assert (len(members), broken) == (3, None)


def test_old_lzma_and_parallel_zstd_are_read(tmp_path):
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0size"
    for data in (lzma.compress(make_tar(SAMPLE), lzma.FORMAT_ALONE), skippable + zstd(make_tar(SAMPLE)) + skippable):
        members, broken = members_of(tmp_path, data)
        assert broken is None
        assert {member.name: member.data for member in members} == SAMPLE


@pytest.mark.parametrize("plain", [b"", b"a", b"ab" * 300_000, noise(700_000)])
@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_every_compression_gives_its_bytes_back_in_bounded_pieces(compress, plain):
    assert read_all(opened(compress(plain))) == plain


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_at_the_end_there_is_nothing_however_often_one_asks(compress):
    source = opened(compress(b"a caption"))
    assert read_all(source) == b"a caption"
    assert (source.read(10), source.read(10)) == (b"", b"")


def test_streams_of_any_kind_follow_one_another_with_zeros_between():
    packed = gzip.compress(b"one ") + gzip.compress(b"") + bytes(1000) + bz2.compress(b"two ") + lzma.compress(b"three")
    assert read_all(opened(packed)) == b"one two three"


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b", b"PK\x03\x04", bytes(100), make_tar(SAMPLE)])
def test_what_no_compression_begins_with_is_left_as_it_was(data):
    raw = io.BytesIO(data)
    assert open_compressed(raw) is None
    assert raw.tell() == 0


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_a_cut_is_the_end_of_the_data(compress):
    packed = compress(noise(5000))
    for cut in (20, len(packed) // 2, len(packed) - 1):
        with pytest.raises(EOFError):
            read_all(opened(packed[:cut]))


@pytest.mark.parametrize(
    "damaged",
    [
        *(compress(noise(5000))[:3000] + b"damage" + compress(noise(5000))[3006:] for compress in STREAMS),
        b"\x28\xb5\x2f\xfd\x20\x08\x0f\0\0damage",
    ],
)
def test_damage_is_an_error_without_a_number(damaged):
    with pytest.raises(OSError, match=r"\w") as caught:
        read_all(opened(damaged))
    assert caught.value.errno is None


@pytest.mark.parametrize("rest", [b"x", b"no compression", bytes(1000) + b"xyz", noise(300_000)])
@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_bytes_of_no_compression_behind_the_end_are_counted(compress, rest):
    with pytest.raises(ShardBrokenError, match=f" {len(rest)} bytes behind the end of the compressed data") as caught:
        read_all(opened(compress(b"a caption") + rest))
    assert caught.value.reason == Reason.SHARD_TRAILING_DATA


@pytest.mark.parametrize(
    ("data", "num_zeros"),
    [
        (b"", 0),
        (b"\0x", 0),
        (b"x\0\0\0", 3),
        (bytes(5), 5),
        (bytes(600_000), 600_000),
        (b"x" * 400_000 + bytes(300_000), 300_000),
    ],
)
def test_the_zeros_at_the_end_of_a_file_are_counted(data, num_zeros):
    assert len_zero_tail(io.BytesIO(data)) == num_zeros


def test_what_follows_a_position_is_measured():
    assert [len_from(io.BytesIO(b"12345"), position) for position in (0, 2, 5)] == [5, 3, 0]
