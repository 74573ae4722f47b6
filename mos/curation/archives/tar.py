"""A tar as a stream of members: nothing is unpacked, linked or trusted, and every size is bounded before it is read.

The standard library reads extension headers of any size into memory and keeps a list of all members; this reader
does neither. It knows what image-text shards use: ustar, GNU and pax archives, plain or in gzip, bzip2, xz, zstd or
lz4, alone or joined by `cat`. A shard is read to its last byte: what cannot be read is named and measured.

How an archive ends. Two blocks of zeros end it, and zeros fill the writer's record: 20 blocks, or a power of two if
asked. One block alone ends nothing. A file that ends in more zeros than that was allocated before it was written, and
its writer was stopped. Where both may be, the members decide: whether the last sample is whole, and its files are.
Two records of zeros, or one large one, behind a whole sample are taken for an end: that much may be lost unnoticed.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import fsspec

from mos.curation.archives.formats import name_format
from mos.curation.archives.header import BLOCK, Header, is_header, parse_pax, parse_size, resolve
from mos.curation.archives.stream import ArchiveStream
from mos.curation.config import ShardLimits
from mos.curation.file_names import is_safe_name
from mos.curation.listing import may_enter
from mos.images.reasons import Notice, Reason, Rejected, ShardBrokenError

MAX_EXTENSION_BYTES = 1 << 20
"""Of a pax or GNU long-name header."""
END_MARKER = 2 * BLOCK
RECORD = 20 * BLOCK
"""What GNU tar, bsdtar and Python fill up with zeros unless told otherwise."""
LARGE_RECORDS = tuple(1 << power for power in range(14, 21))
"""Other records in use, up to `tar -b 2048`."""
MIN_RECORDS = 4
"""Fewer large records prove nothing: files are allocated in such sizes, too."""
COPIED_BYTES = 1 << 16
"""Members up to this are read with their padding and copied, which costs less than a second read."""
SHARD = "(shard)"
"""Stands for a member where a verdict is on none."""

Wanted = Callable[[str, int], bool]
Notices = Counter[Notice]


class Member(NamedTuple):
    """One file of a tar, in archive order; directories are not reported."""

    name: str
    size: int
    """Bytes."""
    data: bytes | None
    """None where it was refused or not wanted."""
    refusal: Rejected | None = None
    """Set where the member is a link, device or sparse file, its name is unsafe, or it stands for a gap."""


def read_tar(path: str, limits: ShardLimits, wanted: Wanted, notices: Notices | None = None) -> Iterator[Member]:
    """Every member of a tar at a local path or an fsspec URI.

    Args:
        path: the tar.
        limits: caps; passing one ends the shard.
        wanted: whether to read a member, from its name and size in bytes.
        notices: counts what was odd and did no harm.

    Raises:
        ShardBrokenError: the shard cannot be opened, is damaged, cut short or past a cap, or something else follows
            it; all members before that were yielded.
        OSError: the disk or the store failed, which is no property of the shard.
    """
    try:
        raw = fsspec.open(path, "rb").open() if "://" in path else open(path, "rb")  # noqa: SIM115
    except PermissionError as error:
        raise ShardBrokenError(Reason.PERMISSION, f"{path} may not be read by this user") from error
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        if not may_enter(path):
            raise ShardBrokenError(Reason.PERMISSION, f"folder {path} may not be searched by this user") from error
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, f"{path}: {error.strerror or error}") from error
    with raw:
        yield from _members(ArchiveStream(raw, limits), limits, wanted, Counter() if notices is None else notices)


def _members(stream: ArchiveStream, limits: ShardLimits, wanted: Wanted, notices: Notices) -> Iterator[Member]:
    num_members = 0
    while (header := _next_header(stream, notices)) is not None:
        if header.zeros_before and not _may_be_padding(header.zeros_before, stream.num_read - BLOCK):
            detail = f"{header.zeros_before} zero bytes inside the shard: what stood there is lost"
            yield Member(SHARD, 0, None, Rejected(Reason.SHARD_TRUNCATED, detail))
        num_members += 1
        if num_members > limits.max_members:
            raise ShardBrokenError(Reason.SHARD_TOO_LARGE, f"more than {limits.max_members} members")
        member = _read_member(stream, header, limits, wanted)
        if header.kind != "no member":
            yield member


def _read_member(stream: ArchiveStream, header: Header, limits: ShardLimits, wanted: Wanted) -> Member:
    name = header.name.decode("utf-8", "backslashreplace")
    refusal = _refusal(header, name, limits)
    size = header.size if header.has_data else 0
    stream.reserve(size, name)
    data = None
    if refusal is None and header.kind == "file" and wanted(name, size):
        data = _read_padded(stream, size, name)
    else:
        stream.skip(size + -size % BLOCK, name)
    return Member(name, size, data, refusal)


def _read_padded(stream: ArchiveStream, size: int, name: str) -> bytes:
    """The bytes of a member, the stream left behind its padding; of a small one both in one read."""
    if size <= COPIED_BYTES:
        return stream.read(size + -size % BLOCK, name)[:size]
    data = stream.read(size, name)
    stream.skip(-size % BLOCK, name)
    return data


def _refusal(header: Header, name: str, limits: ShardLimits) -> Rejected | None:
    if len(header.name) > limits.max_name_bytes:
        return Rejected(Reason.MEMBER_NAME_TOO_LONG, f"{len(header.name)} bytes, at most {limits.max_name_bytes}")
    if not is_safe_name(name) or b"\0" in header.name or name.encode() != header.name:
        return Rejected(Reason.MEMBER_UNSAFE_NAME, repr(name))
    if header.kind == "other":
        return Rejected(Reason.MEMBER_NOT_REGULAR, f"{name} is a link, a device or a sparse file")
    return None


def _next_header(stream: ArchiveStream, notices: Notices) -> Header | None:
    """The next member's header with its extension headers applied; None at the end of the file.

    Raises:
        ShardBrokenError: there is none, and no end either.
    """
    zeros, block = _next_block(stream, notices)
    pax: dict[bytes, bytes] = {}
    long_name: bytes | None = None
    try:
        while (kind := block[156:157]) and kind in b"xgLK":
            body = _extension(stream, block)
            if kind == b"x":
                pax |= parse_pax(body)
            elif kind == b"L":
                long_name = body.split(b"\0", 1)[0]
            more, block = _next_block(stream, notices)
            zeros += more
            if more and (pax or long_name):
                raise ShardBrokenError(Reason.SHARD_TRUNCATED, "zeros stand where a member should")
        return resolve(block, pax, long_name, zeros) if block else None
    except ShardBrokenError as broken:
        raise _measured(broken, block, stream) from broken


def _extension(stream: ArchiveStream, block: bytes) -> bytes:
    """Content of an extension header."""
    size = parse_size(block)
    if size > MAX_EXTENSION_BYTES:
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, f"an extension header of {size} bytes")
    body = stream.read(size)
    stream.skip(-size % BLOCK)
    return body


def _next_block(stream: ArchiveStream, notices: Notices) -> tuple[int, bytes]:
    """Count of zero bytes before the next header, and its block; no block at the end of the file."""
    is_first = stream.num_read == 0
    block = stream.read_up_to(BLOCK)
    if len(block) == BLOCK and (block[0] or block.strip(b"\0")):
        return 0, block
    if is_first and (name := name_format(block)) is not None:
        raise ShardBrokenError(Reason.SHARD_UNREADABLE, name)
    if len(block) < BLOCK:
        raise ShardBrokenError(Reason.SHARD_TRUNCATED, "the shard ends without an end marker")
    zeros = BLOCK + stream.skip_zeros()
    notices[Notice.LONE_ZERO_BLOCK] += zeros < END_MARKER
    block = _aligned(stream, zeros % BLOCK)
    if block or _is_usual_padding(zeros, stream.num_read):
        return zeros, block
    is_certain = not _may_be_padding(zeros, stream.num_read)
    detail = f"the shard ends in {zeros} zero bytes: its writer was stopped"
    raise ShardBrokenError(Reason.SHARD_TRUNCATED, detail, is_zero_filled=True, is_certain=is_certain)


def _aligned(stream: ArchiveStream, shift: int) -> bytes:
    """The header that begins where zeros end, or `shift` zeros before that; nothing at the end of the file.

    Raises:
        ShardBrokenError: something else stands there.
    """
    data = stream.read_up_to(BLOCK)
    for zeros in dict.fromkeys((shift, 0)):
        block = (bytes(zeros) + data)[:BLOCK]
        if is_header(block):
            stream.put_back(data[BLOCK - zeros :])
            return block
    if data:
        stream.put_back(data)
        num_rest = stream.count_rest()
        detail = f"{num_rest} bytes behind the end of the archive are not read: {name_format(data) or 'no tar'}"
        raise ShardBrokenError(Reason.SHARD_TRAILING_DATA, detail)
    return b""


def _may_be_padding(zeros: int, end: int) -> bool:
    """True if a writer may have left that many zeros, an end marker among them, to end at `end` bytes."""
    usual = RECORD if end % RECORD else 2 * RECORD  # `tar --concatenate` leaves the padding of both archives
    return zeros < END_MARKER + max([usual, *(record for record in LARGE_RECORDS if end % record == 0)])


def _is_usual_padding(zeros: int, end: int) -> bool:
    """True if nearly every archive that ends so is whole."""
    longest = max([RECORD, *(record for record in LARGE_RECORDS if end % record == 0 and end >= MIN_RECORDS * record)])
    return zeros < END_MARKER + longest


def _measured(broken: ShardBrokenError, block: bytes, stream: ArchiveStream) -> ShardBrokenError:
    """Verdict on a damaged header: the name of another format, the start of zeros, or how much is lost."""
    if broken.reason != Reason.SHARD_UNREADABLE:
        return broken
    if stream.num_read == BLOCK and (name := name_format(block)) is not None:
        return ShardBrokenError(broken.reason, name)
    start = stream.num_read
    num_zeros = stream.skip_zeros() + len(block) - len(block.rstrip(b"\0"))
    if num_zeros and not stream.read_up_to(1):
        detail = f"the shard ends in {num_zeros} zero bytes: its writer was stopped ({broken.detail})"
        return ShardBrokenError(Reason.SHARD_TRUNCATED, detail, is_zero_filled=True)
    num_rest = stream.num_read - start + stream.count_rest()
    return ShardBrokenError(broken.reason, f"{broken.detail}; {num_rest} bytes from byte {start} on are not read")
