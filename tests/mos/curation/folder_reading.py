"""Folders of files, and what curation makes of each of them."""

import json
from collections import Counter
from pathlib import Path

from mos.curation.config import CurateConfig
from mos.curation.items import Item
from mos.curation.shards import read_unit
from mos.curation.sources import list_units
from mos.images.reasons import Notice, Reason


def read(source: dict, base: Path = Path("/"), **limits) -> tuple[dict[str, Item], dict[Notice, int]]:
    """Every candidate by its key, each key once, and what was counted apart."""
    config = CurateConfig(sources=[{"name": "s", **source}], resolutions=[32], token_px=8, **limits)
    notices = Counter[Notice]()
    items: list[Item] = []
    for unit in list_units(config.sources, base):
        items += read_unit(unit, config.sources[0], config, notices)
    found = {item.key: item for item in items}
    assert len(found) == len(items)
    return found, dict(+notices)


def fates(found: dict[str, Item]) -> dict[str, Reason | None]:
    return {key: item.refusal and item.refusal.reason for key, item in found.items()}


def fill(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def lines(*records: dict) -> bytes:
    return b"\n".join(json.dumps(record, ensure_ascii=False).encode() for record in records)


def jsonl(folder: Path, *records: dict, encoding: str = "utf-8") -> dict:
    (folder / "captions.jsonl").write_bytes(lines(*records).decode().encode(encoding))
    return {"type": "folder", "path": folder, "captions": folder / "captions.jsonl"}
