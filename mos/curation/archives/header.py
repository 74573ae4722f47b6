"""The 512 bytes before each member of a tar, and the extension headers that say what does not fit into them."""

from typing import Literal, NamedTuple

from mos.images.reasons import Reason, ShardBrokenError

BLOCK = 512


class Header(NamedTuple):
    """One header block and the extension headers before it."""

    name: bytes
    size: int
    kind: Literal["file", "no member", "other"]
    """`no member`: a directory, a label of the volume."""
    has_data: bool
    """Whether `size` bytes follow: not after links and devices, whatever their size field says."""
    zeros_before: int
    """Zero bytes between it and what came before it."""


def is_header(block: bytes) -> bool:
    """True if a block's checksum is right, as of no other bytes."""
    if len(block) < BLOCK:
        return False
    try:
        return _checksum(block) == parse_number(block[148:156], base=8)
    except ShardBrokenError:
        return False


def parse_size(block: bytes) -> int:
    """The size field of a header.

    Raises:
        ShardBrokenError: the block is no header, or the size no number.
    """
    if not is_header(block):
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, "a header's checksum is wrong: no tar, or a damaged one")
    field = block[124:136]
    if not field[0] & 0x80:
        return parse_number(field, base=8)
    if field[0] != 0x80:
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, "a header's size is negative")
    return int.from_bytes(field[1:], "big")  # GNU's form for 8 GiB and more


def resolve(block: bytes, pax: dict[bytes, bytes], long_name: bytes | None, zeros_before: int) -> Header:
    """The header of a member, with what its extension headers say of it."""
    kind, size = block[156:157], parse_size(block)
    name = pax.get(b"path") or long_name or _ustar_name(block)
    if b"size" in pax:
        size = parse_number(pax[b"size"], base=10)
    is_sparse = bool(pax) and any(key.startswith(b"GNU.sparse") for key in pax)
    if kind == b"5" or (kind in b"0\0" and name.endswith(b"/")):
        return Header(name, size, "no member", False, zeros_before)
    if kind in b"DV":  # of GNU tar: the listing of a directory, the label of a volume
        return Header(name, size, "no member", True, zeros_before)
    regular = kind in b"0\x007" and not is_sparse
    return Header(name, size, "file" if regular else "other", kind not in b"12346", zeros_before)


def parse_number(field: bytes, base: int) -> int:
    """The number in a field of a header, which a NUL ends; 0 where it is blank.

    Raises:
        ShardBrokenError: it is none, or negative.
    """
    text = field.split(b"\0", 1)[0].strip()
    try:
        value = int(text or b"0", base)
    except ValueError as error:
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, f"a header holds {text[:16]!r} for a number") from error
    if value < 0:
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, f"a header holds {value} for a size")
    return value


def parse_pax(body: bytes) -> dict[bytes, bytes]:
    """Records `<length> <key>=<value>` that each end in a line feed; the length counts itself.

    Raises:
        ShardBrokenError: a record has another form.
    """
    records: dict[bytes, bytes] = {}
    while body.strip(b"\0"):
        digits, _, _ = body[:24].partition(b" ")
        length = parse_number(digits, base=10)
        record = body[len(digits) + 1 : length]
        key, sign, value = record.partition(b"=")
        if not len(digits) < length <= len(body) or not sign or not value.endswith(b"\n"):
            raise ShardBrokenError(Reason.SHARD_UNREADABLE, "a damaged pax header")
        records[key] = value[:-1]
        body = body[length:]
    return records


def _checksum(block: bytes) -> int:
    """The sum of all bytes, those of the checksum itself taken as spaces."""
    return sum(block[:148]) + 256 + sum(block[156:])


def _ustar_name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name
