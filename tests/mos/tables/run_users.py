"""Runs that use the tables of `sample_tables`, and the records by which they say so."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mos.ledger import StepLedger
from mos.loader.index import EncodedTables
from mos.tables.runs import Encoding, RegisteredRun
from mos.tables.views import View
from tests.mos.tables.sample_tables import RESOLUTION


def encode_outputs(tables: EncodedTables) -> dict[str, Any]:
    """What a record of the encode step holds."""
    pinned = {name: asdict(getattr(tables, name)) for name in ("samples", "states", "latents")}
    views = {"stage1": asdict(View(RESOLUTION, tasks=("generate", "edit")))}
    return pinned | {"views": views, "sees_images": tables.sees_images, "codec_id": tables.codec_id}


def record(root: Path, tables: EncodedTables, fingerprint: str = "f" * 64) -> None:
    StepLedger(root).record("encode", fingerprint, encode_outputs(tables), 0.0, "")


def user_of(*tables: EncodedTables, name: str = "run", root: str = "/root") -> RegisteredRun:
    """A run whose records name these tables."""
    return RegisteredRun(name, root, tuple(Encoding.from_outputs(encode_outputs(one)) for one in tables))
