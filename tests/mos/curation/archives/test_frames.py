import io

import pytest

from mos.curation.archives.frames import end_of_frames
from tests.mos.curation.archives.tars import lz4, noise, zstd

SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0size"
FILLER = b"\xaa"
"""Read as the start of a block, it leads astray."""


def number(value: int, num_bytes: int) -> bytes:
    return value.to_bytes(num_bytes, "little")


def zstd_frame(descriptor: int, num_header: int) -> bytes:
    """A raw block of 5 bytes, one byte repeated 1000 times and a compressed block of 3, in the layout of RFC 8878."""
    blocks = number(5 << 3, 3) + 5 * FILLER + number(1000 << 3 | 1 << 1, 3) + FILLER + number(3 << 3 | 2 << 1 | 1, 3)
    checksum = FILLER * (4 if descriptor & 4 else 0)
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + FILLER * num_header + blocks + 3 * FILLER + checksum


def lz4_frame(flags: int, num_header: int) -> bytes:
    """A compressed block of 5 bytes and an uncompressed one of 3, in the layout of the frame format 1.6."""
    after_block = FILLER * (4 if flags & 0x10 else 0)
    blocks = number(5, 4) + 5 * FILLER + after_block + number(1 << 31 | 3, 4) + 3 * FILLER + after_block + bytes(4)
    checksum = FILLER * (4 if flags & 4 else 0)
    return b"\x04\x22\x4d\x18" + bytes([flags]) + FILLER * num_header + blocks + checksum


@pytest.mark.parametrize("rest", [b"", b"x", b"PK\x03\x04 and more", bytes(1000)])
@pytest.mark.parametrize("size", [0, 1, 5000, 300_000])
@pytest.mark.parametrize(("codec", "compress"), [("zstd", zstd), ("lz4", lz4)])
def test_the_end_of_what_arrow_packs_is_found(codec, compress, size, rest):
    packed = compress(noise(size))
    assert end_of_frames(io.BytesIO(packed + rest), codec) == len(packed)


@pytest.mark.parametrize(
    ("descriptor", "num_header"),
    [
        *((0x00, 1), (0x20, 1), (0x40, 3), (0x60, 2), (0x80, 5), (0xA0, 4), (0xC0, 9), (0xE0, 8)),
        *((0x01, 2), (0x02, 3), (0x03, 5), (0x04, 1), (0xE7, 12)),
    ],
)
def test_every_form_of_a_zstd_header_is_passed(descriptor, num_header):
    frame = zstd_frame(descriptor, num_header)
    assert end_of_frames(io.BytesIO(frame + b"rest"), "zstd") == len(frame)


@pytest.mark.parametrize(
    ("flags", "num_header"), [(0x60, 2), (0x40, 2), (0x68, 10), (0x61, 6), (0x69, 14), (0x70, 2), (0x64, 2), (0x7D, 14)]
)
def test_every_form_of_an_lz4_header_is_passed(flags, num_header):
    frame = lz4_frame(flags, num_header)
    assert end_of_frames(io.BytesIO(frame + b"rest"), "lz4") == len(frame)


def test_frames_follow_one_another_and_skippable_ones_stand_between():
    frames = SKIPPABLE + zstd(b"one") + zstd_frame(0x04, 1) + b"\x5f" + SKIPPABLE[1:] + zstd(b"two")
    assert end_of_frames(io.BytesIO(frames + b"rest"), "zstd") == len(frames)


@pytest.mark.parametrize(
    ("codec", "frames", "other"), [("zstd", zstd(b"one"), lz4(b"two")), ("lz4", lz4(b"one"), zstd(b"two"))]
)
def test_a_frame_of_the_other_codec_is_not_passed(codec, frames, other):
    assert end_of_frames(io.BytesIO(frames + other), codec) == len(frames)


@pytest.mark.parametrize(
    ("codec", "frame"),
    [
        ("zstd", zstd_frame(0x04, 1)),
        ("zstd", zstd(noise(100))),
        ("zstd", SKIPPABLE),
        ("lz4", lz4_frame(0x7D, 14)),
        ("lz4", lz4(noise(100))),
    ],
)
def test_a_frame_cut_anywhere_has_no_end(codec, frame):
    for cut in range(4, len(frame)):
        assert end_of_frames(io.BytesIO(frame[:cut]), codec) is None, cut
        assert end_of_frames(io.BytesIO(frame + frame[:cut]), codec) is None, cut


@pytest.mark.parametrize("data", [b"", b"\x28\xb5", b"no frame at all"])
def test_where_no_frame_begins_the_end_is_the_start(data):
    assert end_of_frames(io.BytesIO(data), "zstd") == 0
