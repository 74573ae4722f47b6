import io
import tarfile

import pytest

from mos.curation.archives.header import BLOCK, is_header, parse_number, parse_pax, parse_size, resolve
from mos.images.reasons import Reason, ShardBrokenError
from tests.mos.curation.archives.tars import make_tar, members_of, names


def header(
    name: bytes = b"a.jpg",
    kind: bytes = b"0",
    size: bytes = b"00000000017\0",
    magic: bytes = b"ustar\00000",
    prefix: bytes = b"",
) -> bytes:
    """A block with a right checksum, its fields as given."""
    block = bytearray(BLOCK)
    for start, field in ((0, name), (124, size), (156, kind), (257, magic), (345, prefix)):
        block[start : start + len(field)] = field
    block[148:156] = b"%06o\0 " % (sum(block) + 8 * ord(" "))
    return bytes(block)


def test_reads_old_archives_with_a_name_prefix(tmp_path):
    sample = {"folder/" * 20 + "a.jpg": b"x", "b.jpg": b"y"}
    members, broken = members_of(tmp_path, make_tar(sample, tarfile.USTAR_FORMAT))
    assert broken is None
    assert {member.name: member.data for member in members} == sample


def test_labels_and_listings_of_gnu_tar_are_no_members(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, data in (("label", b"V", b""), ("folder/", b"D", b"Ya.jpg\0\0"), ("a.jpg", b"0", b"x")):
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data)
            tar.addfile(info, io.BytesIO(data))
    members, broken = members_of(tmp_path, buffer.getvalue())
    assert (names(members), broken) == (["a.jpg"], None)


def test_only_a_block_with_the_right_checksum_is_a_header():
    block = header()
    assert is_header(block)
    assert not is_header(block[:-1])
    assert not is_header(bytes(BLOCK))
    for place in (0, 124, 147, 156, 400, 511):
        damaged = bytearray(block)
        damaged[place] ^= 1
        assert not is_header(bytes(damaged)), place


@pytest.mark.parametrize(
    ("field", "size"),
    [
        (b"00000000017\0", 15),
        (b"        17 \0", 15),
        (b"77777777777\0", 8**11 - 1),
        (b"\x80" + (2**33 + 5).to_bytes(11, "big"), 2**33 + 5),
        (bytes(12), 0),
    ],
)
def test_a_size_is_octal_or_in_the_form_of_gnu(field, size):
    assert parse_size(header(size=field)) == size


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (header(size=b"\xff" * 12), "a header's size is negative"),
        (header(size=b"00000000018\0"), "a header holds b'00000000018' for a number"),
        (header(size=b"-0000000017\0"), "a header holds -15 for a size"),
        (header()[:-1] + b"x", "a header's checksum is wrong: no tar, or a damaged one"),
    ],
)
def test_a_size_that_is_none_is_told(block, sentence):
    with pytest.raises(ShardBrokenError) as caught:
        parse_size(block)
    assert (caught.value.reason, caught.value.detail) == (Reason.SHARD_UNREADABLE, sentence)


@pytest.mark.parametrize(
    ("field", "base", "number"),
    [(b"0000644\0", 8, 420), (b"17\x008", 8, 15), (b" \0", 8, 0), (b"", 10, 0), (b"9", 10, 9)],
)
def test_a_nul_ends_a_number(field, base, number):
    assert parse_number(field, base) == number


@pytest.mark.parametrize(
    ("body", "records"),
    [
        (b"", {}),
        (b"11 path=ab\n", {b"path": b"ab"}),
        (b"11 path=ab\n10 size=7\n" + bytes(490), {b"path": b"ab", b"size": b"7"}),
        (b"17 comment=a=b\nc\n", {b"comment": b"a=b\nc"}),
        (b"10 size=7\n10 size=8\n", {b"size": b"8"}),
    ],
)
def test_a_pax_record_is_as_long_as_it_says(body, records):
    assert parse_pax(body) == records


@pytest.mark.parametrize(
    "body",
    [
        b"0 path=ab\n",
        b"2 path=ab\n",
        b"10 path=ab\n",
        b"9 pathab\n",
        b"10 path=ab",
        b"99 path=ab\n",
        b"x path=ab\n",
        b"11path=ab\n\n",
    ],
)
def test_a_damaged_pax_record_is_refused(body):
    with pytest.raises(ShardBrokenError) as caught:
        parse_pax(body)
    assert caught.value.reason == Reason.SHARD_UNREADABLE


@pytest.mark.parametrize(
    ("kind", "name", "meaning", "has_data"),
    [
        (b"0", b"a.jpg", "file", True),
        (b"\0", b"a.jpg", "file", True),
        (b"7", b"a.jpg", "file", True),
        (b"1", b"a.jpg", "other", False),
        (b"2", b"a.jpg", "other", False),
        (b"3", b"a.jpg", "other", False),
        (b"4", b"a.jpg", "other", False),
        (b"6", b"a.jpg", "other", False),
        (b"S", b"a.jpg", "other", True),
        (b"5", b"folder", "no member", False),
        (b"\0", b"folder/", "no member", False),
        (b"0", b"folder/", "no member", False),
        (b"D", b"folder/", "no member", True),
        (b"V", b"label", "no member", True),
    ],
)
def test_the_type_says_what_a_member_is_and_whether_bytes_follow(kind, name, meaning, has_data):
    found = resolve(header(name, kind), {}, None, 512)
    assert (found.name, found.size, found.kind, found.has_data) == (name, 15, meaning, has_data)
    assert found.zeros_before == 512


def test_an_extension_header_says_more_than_the_block():
    block = header(b"short.jpg", prefix=b"folder")
    assert resolve(block, {}, None, 0).name == b"folder/short.jpg"
    assert resolve(block, {}, b"long.jpg", 0).name == b"long.jpg"
    told = resolve(block, {b"path": b"longer.jpg", b"size": b"8589934592"}, b"long.jpg", 0)
    assert (told.name, told.size, told.kind) == (b"longer.jpg", 2**33, "file")
    sparse = resolve(block, {b"GNU.sparse.major": b"1"}, None, 0)
    assert (sparse.kind, sparse.has_data) == ("other", True)


def test_in_the_format_of_gnu_no_prefix_stands_before_the_name():
    block = header(b"a.jpg", magic=b"ustar  \0", prefix=b"14573216071")
    assert resolve(block, {}, None, 0).name == b"a.jpg"
