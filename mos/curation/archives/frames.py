"""Where the last whole frame of a zstd or lz4 file ends, from the sizes that frames give of their blocks.

zstd: RFC 8878, section 3.1; lz4: its frame format 1.6. Nothing is decompressed.
"""

from typing import BinaryIO

_SKIPPABLE = {bytes([0x50 + number, 0x2A, 0x4D, 0x18]) for number in range(16)}
_ZSTD, _LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
FRAMES = {_ZSTD: "zstd", _LZ4: "lz4"} | dict.fromkeys(_SKIPPABLE, "zstd")
"""Codec by the four bytes that a file begins with; parallel zstd compressors begin with a skippable frame."""


class _CutError(Exception):
    """The file ends inside a frame."""


def end_of_frames(raw: BinaryIO, codec: str) -> int | None:
    """Position behind the last whole frame that follows others without a gap; None where a frame is cut short.

    Args:
        raw: the file; its position is lost.
        codec: `zstd` or `lz4`.
    """
    size = raw.seek(0, 2)
    position = raw.seek(0)
    try:
        while (magic := raw.read(4)) in FRAMES:
            if magic in _SKIPPABLE:
                raw.seek(_number(raw, 4), 1)
            elif FRAMES[magic] != codec:
                break
            elif codec == "zstd":
                _skip_zstd(raw)
            else:
                _skip_lz4(raw)
            position = raw.tell()
    except _CutError:
        return None
    return position if position <= size else None


def _number(raw: BinaryIO, size: int) -> int:
    data = raw.read(size)
    if len(data) < size:
        raise _CutError
    return int.from_bytes(data, "little")


def _skip_zstd(raw: BinaryIO) -> None:
    descriptor = _number(raw, 1)
    is_single = bool(descriptor & 0x20)
    content_size = (int(is_single), 2, 4, 8)[descriptor >> 6]
    raw.seek((not is_single) + (0, 1, 2, 4)[descriptor & 3] + content_size, 1)
    is_last = False
    while not is_last:
        block = _number(raw, 3)
        is_last = bool(block & 1)
        is_repeated = (block >> 1) & 3 == 1
        raw.seek(1 if is_repeated else block >> 3, 1)
    raw.seek(4 if descriptor & 4 else 0, 1)


def _skip_lz4(raw: BinaryIO) -> None:
    flags = _number(raw, 1)
    raw.seek(1 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0) + 1, 1)
    while block := _number(raw, 4):
        raw.seek((block & 0x7FFF_FFFF) + (4 if flags & 0x10 else 0), 1)
    raw.seek(4 if flags & 0x04 else 0, 1)
