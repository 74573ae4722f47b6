"""Content fingerprints: equal inputs give equal names, so finished work is found and stale work is not."""

import hashlib
import json
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def fingerprint(**parts: Any) -> str:
    """SHA-256 over the canonical JSON of named parts, as 64 hex digits.

    Parts are JSON values or pydantic configs. Floats are written with `repr`, keys are sorted, so the result
    does not depend on dict order, process or platform.
    """
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, configs dumped to plain data."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False)


def sha256_hex(data: bytes) -> str:
    """SHA-256 of raw bytes, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: str | PathLike) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no canonical JSON: pass plain data or a config")
