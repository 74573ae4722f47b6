"""A step's record as Dagster metadata: its numbers as numbers, its pictures as pictures."""

import base64
from pathlib import Path
from typing import Any

import dagster as dg

from mos.ledger import StepRecord

MAX_PICTURE_BYTES = 300_000
"""Larger pictures are linked, not embedded: metadata lives in Dagster's database."""


def asset_metadata(record: StepRecord) -> dict[str, dg.MetadataValue]:
    """One entry for each scalar of the record's outputs (nested ones joined by a slash) and for each picture."""
    entries: dict[str, dg.MetadataValue] = {"seconds": dg.MetadataValue.float(record.seconds)}
    for key, value in _flatten(record.outputs):
        entries[key] = _metadata(value)
    return entries


def _metadata(value: Any) -> dg.MetadataValue:
    match value:
        case bool():
            return dg.MetadataValue.bool(value)
        case int():
            return dg.MetadataValue.int(value)
        case float():
            return dg.MetadataValue.float(value)
        case str() if value.endswith(".png") and Path(value).is_file():
            return _picture(Path(value))
        case str() if Path(value).is_absolute():
            return dg.MetadataValue.path(value)
        case _:
            return dg.MetadataValue.text(str(value))


def _picture(path: Path) -> dg.MetadataValue:
    data = path.read_bytes()
    if len(data) > MAX_PICTURE_BYTES:
        return dg.MetadataValue.path(path)
    return dg.MetadataValue.md(f"![{path.name}](data:image/png;base64,{base64.b64encode(data).decode()})")


def _flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(path, leaf) pairs; lists become one text, nulls are left out."""
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves += _flatten(value, f"{prefix}{key}/")
        elif value is not None:
            leaves.append((f"{prefix}{key}", value))
    return leaves
