"""Tars made in memory, packed or not, and what the reader makes of them."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from mos.curation.archives.tar import Member, read_tar
from mos.curation.config import ShardLimits
from mos.images.reasons import ShardBrokenError

LIMITS = ShardLimits()


def make_tar(members: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def by_arrow(codec: str) -> Callable[[bytes], bytes]:
    """A compression that the standard library lacks."""

    def compress(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()

    compress.__name__ = codec
    return compress


zstd, lz4 = by_arrow("zstd"), by_arrow("lz4")
COMPRESSIONS = [gzip.compress, bz2.compress, lzma.compress, zstd, lz4]


def members_of(
    folder: Path, data: bytes, limits: ShardLimits = LIMITS, notices: Counter | None = None
) -> tuple[list[Member], ShardBrokenError | None]:
    """The members before the end or the break, and the break."""
    path = folder / "shard.tar"
    path.write_bytes(data)
    members: list[Member] = []
    try:
        for member in read_tar(str(path), limits, lambda name, size: True, notices):
            members.append(member)  # noqa: PERF402 - what came before an error counts
    except ShardBrokenError as broken:
        return members, broken
    return members, None


SAMPLE = {
    "a.jpg": b"x" * 1000,
    "deep/er/b.txt": b"",
    "c" * 90 + ".txt": b"caption",
    "d" * 180 + ".json": b"{}",
    "ünï/ço∂é.txt": b"text",
    "e.png": b"y" * 512,
}


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, none of them zero."""
    return np.random.default_rng(seed).integers(1, 256, size, dtype=np.uint8).tobytes()


def sample(first: int, num: int, size: int = 3000) -> dict[str, bytes]:
    return {f"{number}.jpg": noise(size, number) for number in range(first, first + num)}


def names(members: list[Member]) -> list[str]:
    return [member.name for member in members]
