"""The plain bytes of an archive: exact reads, counted against the limits, with every failure sorted into a verdict."""

from typing import BinaryIO

from mos.curation.archives.compression import Source, len_zero_tail, open_compressed
from mos.curation.archives.header import BLOCK, is_header
from mos.curation.config import ShardLimits
from mos.images.reasons import Reason, ShardBrokenError

RATIO_FREE_BYTES = 64 * 2**20
"""Uncompressed bytes below which the compression ratio is not judged."""
ZERO_TAIL_BYTES = 64
"""No compressed file ends in as many zeros; one that does was allocated and never written to its end."""
_CHUNK = 1 << 20


class ArchiveStream:
    """Reads an archive front to back, decompressed on the way."""

    def __init__(self, raw: BinaryIO, limits: ShardLimits) -> None:
        self._raw = raw
        self._limits = limits
        self._ahead = b""
        self._source: Source = raw
        self._is_packed = False
        self.num_read = 0
        """Plain bytes read so far."""
        head = raw.read(BLOCK)
        raw.seek(0)
        if not is_header(head) and (unpacked := self._open()) is not None:
            self._source, self._is_packed = unpacked, True

    def reserve(self, size: int, member: str) -> None:
        """Refuse a member whose declared size passes the cap, before a byte of it is read."""
        if self.num_read + size > self._limits.max_bytes:
            detail = f"{self.num_read + size} bytes, at most {self._limits.max_bytes}"
            raise ShardBrokenError(Reason.SHARD_TOO_LARGE, detail, member)

    def read(self, size: int, member: str | None = None) -> bytes:
        """Exactly `size` bytes.

        Raises:
            ShardBrokenError: there are fewer, or they cannot be read.
        """
        data = self.read_up_to(size, member)
        if len(data) < size:
            detail = f"inside {member}" if member else "without an end marker"
            raise ShardBrokenError(Reason.SHARD_TRUNCATED, f"the shard ends {detail}", member)
        return data

    def read_up_to(self, size: int, member: str | None = None) -> bytes:
        """`size` bytes, fewer at the end of the archive alone."""
        if size and not self._ahead:
            data = self._read_source(size, member)
            if len(data) in (size, 0):
                self._count(len(data), member)
                return data
            self._ahead = data
        parts = [self._ahead[:size]] if self._ahead else []
        self._ahead = self._ahead[size:]
        missing = size - sum(map(len, parts))
        while missing and (part := self._read_source(missing, member)):
            parts.append(part)
            missing -= len(part)
        self._count(size - missing, member)
        return b"".join(parts)

    def skip(self, size: int, member: str | None = None) -> None:
        """Pass over `size` bytes."""
        while size > 0:
            size -= len(self.read(min(size, _CHUNK), member))

    def put_back(self, data: bytes) -> None:
        """Let what was read last be read again."""
        self._ahead = data + self._ahead
        self.num_read -= len(data)

    def skip_zeros(self) -> int:
        """Pass over all zero bytes that follow; how many there were."""
        num_zeros = 0
        while data := self.read_up_to(BLOCK if num_zeros < _CHUNK else _CHUNK):
            rest = data.lstrip(b"\0")
            num_zeros += len(data) - len(rest)
            if rest:
                self.put_back(rest)
                break
        return num_zeros

    def count_rest(self) -> int:
        """Count of the bytes that follow, up to the end; they are gone."""
        if not self._is_packed:
            return self._raw.seek(0, 2) - self.num_read
        start = self.num_read
        while self.read_up_to(_CHUNK):
            pass
        return self.num_read - start

    def _open(self) -> Source | None:
        try:
            return open_compressed(self._raw)
        except OSError as error:
            raise self._verdict(error, None) from error

    def _read_source(self, size: int, member: str | None) -> bytes:
        try:
            return self._source.read(size)
        except (OSError, EOFError) as error:
            raise self._verdict(error, member) from error

    def _count(self, size: int, member: str | None) -> None:
        self.num_read += size
        if self._is_packed and self.num_read > RATIO_FREE_BYTES:
            ratio = self.num_read / max(1, self._raw.tell())
            if ratio > self._limits.max_ratio:
                detail = f"unpacks {ratio:.0f} times, at most {self._limits.max_ratio:g}"
                raise ShardBrokenError(Reason.SHARD_TOO_LARGE, detail, member)

    def _verdict(self, error: OSError | EOFError, member: str | None) -> Exception:
        """Damage becomes a verdict on the shard; a failing disk or store stays an error."""
        if isinstance(error, OSError) and error.errno is not None:
            return error
        text = str(error)[:200] or type(error).__name__
        num_zeros = len_zero_tail(self._raw)
        if num_zeros >= ZERO_TAIL_BYTES:
            detail = f"the compressed file ends in {num_zeros} zero bytes: its writer was stopped ({text})"
            return ShardBrokenError(Reason.SHARD_TRUNCATED, detail, member)
        reason = Reason.SHARD_TRUNCATED if isinstance(error, EOFError) else Reason.SHARD_UNREADABLE
        return ShardBrokenError(reason, text, member)
