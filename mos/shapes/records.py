"""A sample as the files that stand for it in a WebDataset shard, and the tar that holds many of them."""

import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mos.tars import tar_written_whole


@dataclass(frozen=True)
class Member:
    """One file of a sample."""

    suffix: str
    """What follows `<key>.` in its name: `png`, `json`, `source.png`."""
    data: bytes = b""
    link_to: str | None = None
    """Makes the member a symbolic link to this name instead of a file."""


@dataclass(frozen=True)
class Record:
    """One sample: members that share a key."""

    key: str
    members: tuple[Member, ...]


def write_shard(path: Path, records: Iterable[Record]) -> None:
    """Write a tar that depends on its records alone: files of a record by suffix, links behind them.

    The file appears under its name only when it is complete.
    """
    with tar_written_whole(path) as writer:
        for record in records:
            files = {member.suffix: member.data for member in record.members if member.link_to is None}
            writer.write({"__key__": record.key, **files})
            for member in record.members:
                if member.link_to is not None:
                    writer.tarstream.addfile(_link(record.key, member.suffix, member.link_to))


def _link(key: str, suffix: str, target: str) -> tarfile.TarInfo:
    """Header of a symbolic link: webdataset writes files alone."""
    header = tarfile.TarInfo(f"{key}.{suffix}")
    header.type, header.linkname = tarfile.SYMTYPE, target
    return header
