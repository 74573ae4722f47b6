"""An index of tar shards in wids' format -> the shards that it lists, each inside the index's own folder.

An index comes with the data and is trusted no more than they: a url that leads elsewhere, or to another protocol, is
not followed. What it says of a shard's size is held against the file, so a copy that was cut short is found at once.
"""

import json
from dataclasses import dataclass
from typing import Any

import fsspec

from mos.curation.captions import decode_marked
from mos.curation.file_names import spellings
from mos.errors import UserError
from mos.images.reasons import Rejected

SUFFIX = ".json"
MAX_BYTES = 256 * 2**20
"""About a million shards."""
NEWEST = 1
"""Of `wids_version`."""


@dataclass(frozen=True)
class IndexedShard:
    """A line of an index."""

    name: str
    """Path or URI."""
    size: int | None
    """Bytes; None where the index does not say."""


def read_index(path: str, source: str) -> list[IndexedShard]:
    """The shards of an index in their order.

    Args:
        path: of the index, or its URI.
        source: name of the source, for messages.

    Raises:
        UserError: it cannot be read, is no such index, or a shard of it stands outside its folder.
    """
    where = f"source {source!r}: index {path}"
    index = _parse(_read(path, where), where)
    shards = index.get("shardlist")
    if not isinstance(shards, list) or not shards:
        raise UserError(f"{where} has no `shardlist` of shards: name the tars themselves in `paths`")
    version = index.get("wids_version", NEWEST)
    if version != NEWEST:
        raise UserError(f"{where} is of wids_version {version!r}, not {NEWEST}: name the tars themselves in `paths`")
    folder = path.rpartition("/")[0]
    return [_shard(shard, folder, where) for shard in shards]


def _shard(line: object, folder: str, where: str) -> IndexedShard:
    url = line.get("url") if isinstance(line, dict) else None
    if not isinstance(line, dict) or not isinstance(url, str):
        raise UserError(f"{where} lists {str(line)[:200]!r}, which has no url: write the index anew")
    name = next(iter(spellings(url, folder)), None)
    if name is None:
        raise UserError(f"{where} leads out of its folder, to {url[:200]!r}: name that shard itself in `paths`")
    size = line.get("filesize")
    return IndexedShard(f"{folder}/{name}", size if isinstance(size, int) else None)


def _read(path: str, where: str) -> bytes:
    try:
        with fsspec.open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except PermissionError as error:
        raise UserError(f"{where} may not be read by this user: change its permissions") from error
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{where} has more than {MAX_BYTES} bytes: name the tars themselves in `paths`")
    return data


def _parse(data: bytes, where: str) -> dict[str, Any]:
    """The object of an index; one without keys where it is a value of another kind."""
    try:
        value = json.loads(decode_marked(data))
    except (Rejected, ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON: {str(error)[:200]}") from error
    return value if isinstance(value, dict) else {}
