"""Compressed bytes -> plain ones, stream after stream to the end of the file, and what follows that is neither."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

import pyarrow as pa

from mos.curation.archives.frames import FRAMES, end_of_frames
from mos.images.reasons import Reason, ShardBrokenError

MAGIC_BYTES = 8
"""Bytes that tell every compression apart."""
_CHUNK = 1 << 18
_NO_FRAME = ("Truncated", "Unknown frame descriptor", "frameType_unknown")
"""What Arrow says where no frame, or not a whole one, begins."""


class Source(Protocol):
    """Plain bytes in order."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only where fewer are at hand; none at the end.

        Raises:
            EOFError: the compressed data ends early.
            OSError: without an errno, it is damaged.
        """
        ...


class _Decompressor(Protocol):
    """Interface of the standard library's incremental decompressors."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def open_compressed(raw: BinaryIO) -> Source | None:
    """The plain bytes of a file that is at its start; None where no known compression begins there."""
    head = raw.read(MAGIC_BYTES)
    raw.seek(0)
    if (codec := FRAMES.get(head[:4])) is not None:
        return _Framed(raw, codec)
    return None if _decompressor(head) is None else _Streams(raw)


class _Gzip:
    """zlib's decompressor with the interface of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


_DECOMPRESSORS: tuple[tuple[bytes, Callable[[], _Decompressor]], ...] = (
    (b"\x1f\x8b\x08", _Gzip),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", lzma.LZMADecompressor),
    (b"\x5d\0\0", lzma.LZMADecompressor),
)


def _decompressor(head: bytes) -> _Decompressor | None:
    return next((make() for magic, make in _DECOMPRESSORS if head.startswith(magic)), None)


class _Streams:
    """gzip, bzip2 and xz, any number of streams one after the other, as `cat` and parallel compressors write them.

    The standard library's files leave out what follows the last stream without a word.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._ahead = b""
        self._current: _Decompressor | None = None
        self._next()

    def read(self, size: int) -> bytes:
        while self._current is not None:
            stream = self._current
            if stream.eof:
                self._ahead = stream.unused_data + self._ahead
                self._next()
                continue
            data = self._more() if stream.needs_input else b""
            try:
                plain = stream.decompress(data, size)
            except (zlib.error, lzma.LZMAError, ValueError) as error:
                raise OSError(str(error)) from error
            if plain:
                return plain
            if not data and stream.needs_input and not stream.eof:
                raise EOFError("the compressed data ends early")
        return b""

    def _more(self) -> bytes:
        data, self._ahead = self._ahead or self._raw.read(_CHUNK), b""
        return data

    def _next(self) -> None:
        """Begin the stream that follows, or end where only zeros do: tapes and block devices are padded with them."""
        end = self._raw.tell() - len(self._ahead)
        head = self._more()
        while head and not (head := head.lstrip(b"\0")):
            head = self._more()
        while 0 < len(head) < MAGIC_BYTES and (more := self._raw.read(MAGIC_BYTES)):
            head += more
        self._current = _decompressor(head)
        if head and self._current is None:
            raise trailing_data(len_from(self._raw, end))
        self._ahead = head


class _Framed:
    """zstd and lz4, any number of frames one after the other."""

    def __init__(self, raw: BinaryIO, codec: str) -> None:
        self._raw = raw
        self._codec = codec
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), codec)
        self._ended = False

    def read(self, size: int) -> bytes:
        try:
            return b"" if self._ended else self._stream.read(size)
        except OSError as error:
            if error.errno is not None:
                raise
            self._end(error)
            return b""

    def _end(self, error: OSError) -> None:
        """Tell what follows whole frames from damage inside one: Arrow says of neither where it stands."""
        if not any(sign in str(error) for sign in _NO_FRAME):
            raise error
        end = end_of_frames(self._raw, self._codec)
        if end is None:
            raise EOFError(str(error)) from error
        num_rest = len_from(self._raw, end)
        if num_rest and len_zero_tail(self._raw) < num_rest:
            raise trailing_data(num_rest) from error
        if not num_rest:
            raise error
        self._ended = True


def trailing_data(num_bytes: int) -> ShardBrokenError:
    """The verdict on bytes behind the compressed data."""
    detail = f"{num_bytes} bytes behind the end of the compressed data are of no known compression and are not read"
    return ShardBrokenError(Reason.SHARD_TRAILING_DATA, detail)


def len_from(raw: BinaryIO, position: int) -> int:
    """Bytes of a file from a position on."""
    return raw.seek(0, 2) - position


def len_zero_tail(raw: BinaryIO) -> int:
    """Zero bytes that a file ends in."""
    end = position = raw.seek(0, 2)
    while position > 0:
        start = max(0, position - _CHUNK)
        raw.seek(start)
        chunk = raw.read(position - start)
        kept = len(chunk.rstrip(b"\0"))
        if kept:
            return end - (start + kept)
        position = start
    return end
