"""A latents table of a few rows: what is written to it, and what it holds."""

import pyarrow as pa

from mos.tables.append_once import WrittenFragment
from mos.tables.committer import latents_schema
from mos.tables.lance import TableVersion, commit_fragments, read_column, write_rows

SCHEMA = latents_schema("pixel-1", 12, 2)


def rows(*keys: str) -> pa.Table:
    values = [{"latent_key": key, "bucket": "32x32", "payload": 1000 * key.encode()} for key in keys]
    return pa.Table.from_pylist(values, schema=SCHEMA)


def write(table: TableVersion, *keys: str) -> WrittenFragment:
    """One fragment that nobody has committed."""
    (fragment,) = write_rows(table.uri, rows(*keys))
    return WrittenFragment(fragment, keys)


def append(table: TableVersion, *keys: str) -> TableVersion:
    """The table with one more fragment."""
    return commit_fragments(table.uri, [write(table, *keys).fragment], len(keys))


def keys(table: TableVersion) -> list[str]:
    return read_column(table, "latent_key")
