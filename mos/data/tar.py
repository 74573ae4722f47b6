"""A tar as a stream of members: nothing is unpacked, linked or trusted, and every size is bounded before it is read.

The standard library reads extension headers of any size into memory and keeps a list of all members; this reader
does neither. It knows what image-text shards use: ustar, GNU and pax archives, plain or gzip, bzip2 or xz.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

import fsspec

from mos.data.curation import ShardLimits
from mos.data.reasons import Reason, Rejected

BLOCK = 512
MAX_EXTENSION_BYTES = 1 << 20
"""Of a pax or GNU long-name header."""
RATIO_FREE_BYTES = 64 * 2**20
"""Uncompressed bytes below which the compression ratio is not judged."""
_CHUNK = 1 << 20
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Member:
    """One file of a tar, in archive order; directories are not reported."""

    name: str
    size: int
    """Bytes."""
    data: bytes | None
    """None where it was refused or not wanted."""
    refusal: Rejected | None = None
    """Set where the member is a link, device or sparse file, or its name is unsafe."""


class ShardBrokenError(Rejected):
    """The rest of the shard cannot be read; `member` names the file it broke in, if any."""

    def __init__(self, reason: Reason, detail: str, member: str | None = None) -> None:
        super().__init__(reason, detail)
        self.member = member


@dataclass(frozen=True)
class _Header:
    """One header block and the extension headers before it."""

    name: bytes
    size: int
    kind: Literal["file", "directory", "other"]
    has_data: bool
    """Whether `size` bytes follow: not after links and devices, whatever their size field says."""


def read_tar(path: str, limits: ShardLimits, wanted: Callable[[str, int], bool]) -> Iterator[Member]:
    """Every member of a tar at a local path or an fsspec URI.

    Args:
        path: the tar.
        limits: caps; passing one ends the shard.
        wanted: whether to read a member, from its name and size in bytes.

    Raises:
        ShardBrokenError: the shard cannot be opened, is damaged, cut short or past a cap; all members before that
            were yielded.
        OSError: the disk or the store failed, which is no property of the shard.
    """
    try:
        raw = fsspec.open(path, "rb").open() if "://" in path else open(path, "rb")  # noqa: SIM115
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, f"{path}: {error.strerror or error}") from error
    with raw:
        yield from _members(_Stream(raw, limits), limits, wanted)


def _members(stream: "_Stream", limits: ShardLimits, wanted: Callable[[str, int], bool]) -> Iterator[Member]:
    for _ in range(limits.max_members):
        header = _next_header(stream)
        if header is None:
            return
        name = header.name.decode("utf-8", "backslashreplace")
        refusal = _refusal(header, name, limits)
        size = header.size if header.has_data else 0
        stream.reserve(size, name)
        data = None
        if refusal is None and header.kind == "file" and wanted(name, size):
            data = stream.read(size, name)
        else:
            stream.skip(size, name)
        stream.skip(-size % BLOCK, name)
        if header.kind != "directory":
            yield Member(name, size, data, refusal)
    raise ShardBrokenError(Reason.SHARD_TOO_LARGE, f"more than {limits.max_members} members")


def _refusal(header: _Header, name: str, limits: ShardLimits) -> Rejected | None:
    if len(header.name) > limits.max_name_bytes:
        return Rejected(Reason.MEMBER_NAME_TOO_LONG, f"{len(header.name)} bytes, at most {limits.max_name_bytes}")
    if not is_safe_name(name) or b"\0" in header.name or name.encode() != header.name:
        return Rejected(Reason.MEMBER_UNSAFE_NAME, repr(name))
    if header.kind == "other":
        return Rejected(Reason.MEMBER_NOT_REGULAR, f"{name} is a link, a device or a sparse file")
    return None


def is_safe_name(name: str) -> bool:
    """Whether a name stays inside the folder it is relative to."""
    parts = name.replace("\\", "/").split("/")
    return bool(name) and parts[0] != "" and ".." not in parts and "\0" not in name and ":" not in parts[0]


def _next_header(stream: "_Stream") -> _Header | None:
    """The next member's header with its extension headers applied; None at the end marker."""
    pax: dict[bytes, bytes] = {}
    long_name: bytes | None = None
    while True:
        block = stream.read(BLOCK)
        if not block.strip(b"\0"):
            return None
        size, kind = _check(block), block[156:157]
        if kind not in b"xgLK":
            return _resolve(block, size, kind, pax, long_name)
        if size > MAX_EXTENSION_BYTES:
            raise ShardBrokenError(Reason.SHARD_UNREADABLE, f"an extension header of {size} bytes")
        body = stream.read(size)
        stream.skip(-size % BLOCK)
        if kind == b"x":
            pax |= _parse_pax(body)
        elif kind == b"L":
            long_name = body.split(b"\0", 1)[0]


def _resolve(block: bytes, size: int, kind: bytes, pax: dict[bytes, bytes], long_name: bytes | None) -> _Header:
    name = pax.get(b"path") or long_name or _ustar_name(block)
    if b"size" in pax:
        size = _number(pax[b"size"], base=10)
    is_sparse = any(key.startswith(b"GNU.sparse") for key in pax)
    if kind == b"5" or (kind in b"0\0" and name.endswith(b"/")):
        return _Header(name, size, "directory", has_data=False)
    regular = kind in b"0\x007" and not is_sparse
    return _Header(name, size, "file" if regular else "other", has_data=kind not in b"12346")


def _ustar_name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _check(block: bytes) -> int:
    """Verify the header's checksum and return its size field."""
    if sum(block[:148]) + 256 + sum(block[156:]) != _number(block[148:156], base=8):
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, "a header's checksum is wrong: no tar, or a damaged one")
    field = block[124:136]
    if not field[0] & 0x80:
        return _number(field, base=8)
    if field[0] != 0x80:
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, "a header's size is negative")
    return int.from_bytes(field[1:], "big")  # GNU's form for 8 GiB and more


def _number(field: bytes, base: int) -> int:
    text = field.split(b"\0", 1)[0].strip()
    try:
        value = int(text or b"0", base)
    except ValueError as error:
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, f"a header holds {text[:16]!r} for a number") from error
    if value < 0:
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, f"a header holds {value} for a size")
    return value


def _parse_pax(body: bytes) -> dict[bytes, bytes]:
    """Records `<length> <key>=<value>` that each end in a line feed; the length counts itself."""
    records: dict[bytes, bytes] = {}
    while body.strip(b"\0"):
        digits, _, _ = body[:24].partition(b" ")
        length = _number(digits, base=10)
        record = body[len(digits) + 1 : length]
        key, sign, value = record.partition(b"=")
        if length <= len(digits) or not sign or not value.endswith(b"\n"):
            raise ShardBrokenError(Reason.SHARD_UNREADABLE, "a damaged pax header")
        records[key] = value[:-1]
        body = body[length:]
    return records


class _Stream:
    """Counted, exact reads from a tar, decompressed on the way."""

    def __init__(self, raw: BinaryIO, limits: ShardLimits) -> None:
        self._raw = raw
        self._limits = limits
        self._num_read = 0
        magic = raw.read(6)
        raw.seek(0)
        self._stream: BinaryIO | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile = raw
        if magic.startswith(b"\x1f\x8b"):
            self._stream = gzip.GzipFile(fileobj=raw)
        elif magic.startswith(b"BZh"):
            self._stream = bz2.BZ2File(raw)
        elif magic == b"\xfd7zXZ\0":
            self._stream = lzma.LZMAFile(raw)  # noqa: SIM115

    def reserve(self, size: int, member: str) -> None:
        """Refuse a member whose declared size passes the cap, before a byte of it is read."""
        if self._num_read + size > self._limits.max_bytes:
            detail = f"{self._num_read + size} bytes, at most {self._limits.max_bytes}"
            raise ShardBrokenError(Reason.SHARD_TOO_LARGE, detail, member)

    def read(self, size: int, member: str | None = None) -> bytes:
        """Exactly `size` bytes."""
        try:
            data = self._stream.read(size)
            while 0 < len(data) < size and (more := self._stream.read(size - len(data))):
                data += more
        except _DAMAGE as error:
            raise self._broken(error, member) from error
        self._count(len(data), member)
        if len(data) < size:
            detail = f"inside {member}" if member else "no end marker"
            raise ShardBrokenError(Reason.SHARD_TRUNCATED, f"the shard ends {detail}", member)
        return data

    def skip(self, size: int, member: str | None = None) -> None:
        """Pass over `size` bytes."""
        while size > 0:
            size -= len(self.read(min(size, _CHUNK), member))

    def _count(self, size: int, member: str | None) -> None:
        self._num_read += size
        if self._stream is not self._raw and self._num_read > RATIO_FREE_BYTES:
            ratio = self._num_read / max(1, self._raw.tell())
            if ratio > self._limits.max_ratio:
                detail = f"unpacks {ratio:.0f} times, at most {self._limits.max_ratio:g}"
                raise ShardBrokenError(Reason.SHARD_TOO_LARGE, detail, member)

    def _broken(self, error: BaseException, member: str | None) -> BaseException:
        """Damage becomes a verdict on the shard; a failing disk or store stays an error."""
        if isinstance(error, OSError) and error.errno is not None:
            return error
        reason = Reason.SHARD_TRUNCATED if isinstance(error, EOFError) else Reason.SHARD_UNREADABLE
        return ShardBrokenError(reason, str(error)[:200] or type(error).__name__, member)
