"""Inventory of a tables folder: every states and latents table with its size, identity and users.

A queue stays behind where a streaming stage was given up; nobody uses it, so it may go like any table
without a record.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lance.file import LanceFileSession

from mos.errors import UserError
from mos.tables.blob_reader import index_blobs
from mos.tables.lance import TableVersion, latest_version, schema_metadata, table_exists
from mos.tables.lost_files import lost_files
from mos.tables.runs import RegisteredRun

TRIES, PAUSE_S = 20, 0.05
"""A stream that drops a window cleans away the version that is being looked at; then there is a newer one."""
KINDS = ("states", "latents", "queues")
"""Kinds of encoded tables, and the folders they stand in."""


@dataclass(frozen=True)
class TableSummary:
    """One table."""

    kind: str
    uri: str
    rows: int
    num_bytes: int
    """Of the newest version: payloads and light columns."""
    num_fragments: int
    versions: tuple[int, ...]
    """Every version that can still be opened."""
    changed_at: float
    """Unix time of the newest version."""
    encoder: str
    """Tower or codec id."""
    format: str
    is_damaged: bool
    """Whether it has lost data files: its rows cannot be read, nor its payloads counted."""
    users: tuple[str, ...]
    """Names of the runs that have this table in a record, or whose records cannot be read."""


def list_tables(tables_folder: str, users: Sequence[RegisteredRun]) -> list[TableSummary]:
    """Every encoded table of a folder, by kind and uri."""
    files = LanceFileSession(tables_folder)
    listed = []
    for kind in KINDS:
        for prefix in sorted(files.list_with_delimiter(kind).common_prefixes):
            name = prefix.rstrip("/").rsplit("/", 1)[-1]
            try:
                listed.append(describe_table(f"{tables_folder}/{kind}/{name}", kind, users))
            except UserError:
                continue  # a folder in which no table was ever committed
    return listed


def describe_table(uri: str, kind: str, users: Sequence[RegisteredRun]) -> TableSummary:
    """One table as it is now.

    Raises:
        UserError: there is no table at this uri.
        OSError: its files cannot be read.
    """
    for _ in range(TRIES - 1):
        try:
            return _describe(uri, kind, users)
        except (OSError, ValueError, UserError) as error:
            if not table_exists(uri):
                raise UserError(f"there is no table at {uri}") from error
            time.sleep(PAUSE_S)
    return _describe(uri, kind, users)


def _describe(uri: str, kind: str, users: Sequence[RegisteredRun]) -> TableSummary:
    table = latest_version(uri)
    dataset = table.open()
    metadata = schema_metadata(dataset.schema)
    versions = dataset.versions()
    light = sum(file.file_size_bytes or 0 for part in dataset.get_fragments() for file in part.metadata.files)
    payloads = _payload_bytes(table)
    return TableSummary(
        kind=kind,
        uri=uri,
        rows=table.rows,
        num_bytes=light + (payloads or 0),
        num_fragments=len(dataset.get_fragments()),
        versions=tuple(version["version"] for version in versions),
        changed_at=_unix_time(versions[-1]["timestamp"]),
        encoder=metadata["codec" if kind == "latents" else "tower"],
        format=metadata.get("format") or metadata["dtype"],
        is_damaged=payloads is None,
        users=tuple(user.name for user in users if user.encodings is None or user.versions(uri)),
    )


def _payload_bytes(table: TableVersion) -> int | None:
    """Of all rows; None where a data file that says so is lost."""
    try:
        return int(index_blobs(table.open(), "payload", ()).size.sum())
    except (OSError, ValueError):
        if lost_files(table):
            return None
        raise


def _unix_time(moment: datetime | int) -> float:
    assert isinstance(moment, datetime)
    return (moment if moment.tzinfo else moment.astimezone(UTC)).timestamp()
