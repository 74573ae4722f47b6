"""Tars of samples, and what curation makes of each of them."""

import io
import tarfile
from collections import Counter
from pathlib import Path

from mos.curation.config import CurateConfig
from mos.curation.items import Item
from mos.curation.shards import read_unit
from mos.curation.sources import list_units
from mos.images.reasons import Notice, Reason


def read_shard(
    path: Path, type: str = "webdataset", image: dict | None = None, **shard
) -> tuple[list[Item], dict[Notice, int]]:
    """Every candidate of one tar in the order of their places, and what was counted apart."""
    source = {"type": type, "name": "s", "paths": [path]}
    config = CurateConfig(sources=[source], resolutions=[32], token_px=8, image=image or {}, shard=shard)
    notices = Counter[Notice]()
    (unit,) = list_units(config.sources, path.parent)
    items = list(read_unit(unit, config.sources[0], config, notices))
    assert len({item.place for item in items}) == len(items)
    return sorted(items, key=lambda item: item.place), dict(+notices)


def write(path: Path, members: list[tuple[str, bytes]], end: int | None = None) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(buffer.getvalue()[:end])
    return path


def fates(items: list[Item]) -> list[tuple[str, Reason | None]]:
    return [(item.key, item.refusal and item.refusal.reason) for item in items]


def scattered(num: int, size: int = 100, *kinds: str) -> list[tuple[str, bytes]]:
    """All members of one kind, then all of the next."""
    body = {"jpg": b"\xff\xd8\xff" + b"x" * size, "txt": b"a caption", "json": b'{"caption": "told", "id": 7}'}
    return [(f"{number}.{kind}", body[kind]) for kind in kinds or ("jpg", "txt") for number in range(num)]


def pairs(num: int, size: int = 700) -> list[tuple[str, bytes]]:
    """Sound samples side by side, each of 2560 bytes in the tar."""
    image = b"\xff\xd8\xff" + b"x" * (size - 5) + b"\xff\xd9"
    return [(f"{number}.{kind}", data) for number in range(num) for kind, data in (("jpg", image), ("txt", b"a cat"))]


def members_alone(path: Path, members: list[tuple[str, bytes]]) -> bytes:
    """A tar up to the end of its last member."""
    size = sum(512 + -(-len(data) // 512) * 512 for _, data in members)
    return write(path, members).read_bytes()[:size]
