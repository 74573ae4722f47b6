"""A sample as the files that stand for it in a WebDataset shard, and the tar that holds many of them."""

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mos.files import written_whole


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
    """Write a tar that depends on its records alone: no times, owners or machine in it, members side by side by key.

    The file appears under its name only when it is complete.
    """
    with written_whole(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for record in records:
            for member in record.members:
                tar.addfile(_header(record.key, member), io.BytesIO(member.data))


def _header(key: str, member: Member) -> tarfile.TarInfo:
    header = tarfile.TarInfo(f"{key}.{member.suffix}")
    if member.link_to is None:
        header.size = len(member.data)
    else:
        header.type, header.linkname = tarfile.SYMTYPE, member.link_to
    return header
