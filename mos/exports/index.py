"""Index of tar shards in wids' format: JSON that lists them with the number of samples, the size and a sum of each.

    {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": "photos",
     "shardlist": [{"url": "photos-00000.tar", "nsamples": 1000, "filesize": 52428800, "sha256": "..."}]}

A url is relative to the index. `sha256` is ours; readers of the format pass over keys that they do not know.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KIND = "wids-shard-index-v1"


@dataclass(frozen=True)
class WrittenShard:
    """A file of an export that is there."""

    name: str
    """Relative to the export's folder."""
    source: str
    """Source of every row; empty: any."""
    task: str
    """Of every row, where there is a source."""
    num: int
    """Samples."""
    num_bytes: int
    sha256: str


def shard_index(name: str, shards: Sequence[WrittenShard]) -> str:
    """Text of the index of some shards."""
    index: dict[str, Any] = {"__kind__": KIND, "wids_version": 1, "name": name}
    index["shardlist"] = [
        {"url": shard.name, "nsamples": shard.num, "filesize": shard.num_bytes, "sha256": shard.sha256}
        for shard in shards
    ]
    return json.dumps(index, indent=1) + "\n"
