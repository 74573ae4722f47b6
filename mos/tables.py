"""Lance tables, written as fragments by many processes and committed by one: exactly once, counts checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments

from mos.errors import UserError

STORAGE_VERSION = "2.0"
"""Fastest of the Lance formats for `large_binary` scan and take in our measurement of 384 KB and 8 MB values."""


@dataclass(frozen=True)
class TableVersion:
    """A table as it was at one commit; what every reader pins and every step record names."""

    uri: str
    version: int
    rows: int

    def open(self) -> lance.LanceDataset:
        """Open exactly this version."""
        return open_table(self.uri, self.version)


def table_exists(uri: str) -> bool:
    """Whether a table was ever committed at this uri."""
    try:
        lance.dataset(uri)
    except (ValueError, FileNotFoundError, OSError):
        return False
    return True


def open_table(uri: str, version: int | None = None) -> lance.LanceDataset:
    """Open a table, at one version where given.

    Raises:
        UserError: nothing was ever committed at this uri, or not this version.
    """
    try:
        return lance.dataset(uri, version=version)
    except (ValueError, FileNotFoundError, OSError) as error:
        wanted = "" if version is None else f" at version {version}"
        raise UserError(f"table {uri} cannot be opened{wanted}: {error}") from error


def create_table(uri: str, schema: pa.Schema) -> TableVersion:
    """Create an empty table unless there is one; the one there must have the same columns and metadata.

    Raises:
        UserError: the table at this uri was made for something else (another tower, codec or set of columns).
    """
    if not table_exists(uri):
        operation = lance.LanceOperation.Overwrite(schema, [])
        lance.LanceDataset.commit(uri, operation)
    dataset = open_table(uri)
    if not dataset.schema.equals(schema, check_metadata=False) or (schema.metadata or {}) != (
        dataset.schema.metadata or {}
    ):
        raise UserError(
            f"table {uri} holds {_describe(dataset.schema)}, but {_describe(schema)} is to be written: "
            "use another `tables` folder or remove this table"
        )
    return TableVersion(uri, dataset.version, dataset.count_rows())


def write_rows(uri: str, rows: pa.Table) -> list[str]:
    """Write rows as uncommitted fragments of an existing table; returns each fragment's metadata as JSON.

    Safe to repeat: fragments that are never committed are invisible to every reader.
    """
    fragments = write_fragments(rows, uri, schema=rows.schema, mode="append", data_storage_version=STORAGE_VERSION)
    return [json.dumps(fragment.to_json()) for fragment in fragments]


def commit_fragments(uri: str, fragments: Sequence[str], expected_rows: int) -> TableVersion:
    """Append written fragments in one commit and check that the table grew by what was expected.

    Raises:
        RuntimeError: the fragments hold another number of rows than `expected_rows`; nothing is committed.
    """
    parsed = [FragmentMetadata.from_json(text) for text in fragments]
    held = sum(fragment.num_rows for fragment in parsed)
    if held != expected_rows:
        raise RuntimeError(f"{len(parsed)} fragments for {uri} hold {held} rows, expected {expected_rows}")
    before = open_table(uri)
    if not parsed:
        return TableVersion(uri, before.version, before.count_rows())
    after = lance.LanceDataset.commit(uri, lance.LanceOperation.Append(parsed), read_version=before.version)
    return TableVersion(uri, after.version, after.count_rows())


def read_column(table: TableVersion, column: str) -> list[str]:
    """One light column of a pinned table, as a list."""
    return table.open().to_table(columns=[column]).column(column).to_pylist()


def _describe(schema: pa.Schema) -> str:
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    return f"columns {schema.names} with {metadata or 'no metadata'}"
