"""A database for the length of a job: for rows that are sorted, grouped and joined and may be more than memory holds.

It is DuckDB's. What is beyond its bound on memory stands in a folder of its own under `TMPDIR`, whose disk must hold
it: some 150 bytes a sample to join a stage's view, and 250 and its caption to plan what is to be encoded.
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mos.tables.key_columns import from_hex, key_columns
from mos.tables.lance import TableVersion

PREFIX = "mos-workspace-"
"""Of the folders' names, before host and process."""
MEMORY_MB = 512
"""Bound on what a database holds in memory."""
MOST_THREADS = 4
"""More would need more memory to be of use."""
BATCH_ROWS = 32_768
"""Rows that are in Python at a time."""

Columns = Mapping[str, pa.Array | NDArray]


@contextmanager
def workspace() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database, which goes when the block ends; that of a process which was killed goes with the next one."""
    remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{socket.gethostname()}-{os.getpid()}-") as folder:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{MEMORY_MB}MB",
            "temp_directory": folder,
            "preserve_insertion_order": False,
            "threads": min(MOST_THREADS, len(os.sched_getaffinity(0))),
        }
        with duckdb.connect(":memory:", config=settings) as database:
            database.execute("SET enable_progress_bar = false")
            yield database


def remove_abandoned() -> None:
    """Remove folders that processes of this host left behind, which do not run any more."""
    ours = f"{PREFIX}{socket.gethostname()}-"
    for folder in Path(tempfile.gettempdir()).glob(f"{ours}*"):
        process = folder.name.removeprefix(ours).partition("-")[0]
        if process.isdigit() and not Path("/proc", process).exists() and Path("/proc").is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def fill(
    database: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema, batches: Iterable[Columns], where: str = ""
) -> None:
    """Create a table from batches of columns, one batch in memory at a time.

    Args:
        database: where to.
        table: name of the new table.
        schema: of its columns.
        batches: its rows.
        where: SQL behind `FROM incoming`, which may choose some of them.
    """
    rows = (pa.record_batch([pa.array(batch[name]) for name in schema.names], schema=schema) for batch in batches)
    database.register("incoming", pa.RecordBatchReader.from_batches(schema, rows))
    database.execute(f"CREATE TABLE {table} AS SELECT * FROM incoming {where}")
    database.unregister("incoming")


def create(database: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema) -> None:
    """Create a table without rows."""
    fill(database, table, schema, [])


def append(database: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema, columns: Columns) -> None:
    """Append a batch of columns to a table; not within a transaction, which would hold all batches until its end."""
    database.register("incoming", pa.record_batch([pa.array(columns[name]) for name in schema.names], schema=schema))
    database.execute(f"INSERT INTO {table} SELECT * FROM incoming")
    database.unregister("incoming")


def key_fields(prefix: str) -> list[pa.Field]:
    """Fields `<prefix>0` to `<prefix>3` of a key (`mos.tables.key_columns`); null where a row has none."""
    return [pa.field(f"{prefix}{word}", pa.uint64()) for word in range(4)]


def fill_keys(database: duckdb.DuckDBPyConnection, table: str, held: TableVersion | pa.Table) -> None:
    """Create a table of every row's key, `k0` to `k3`, and number, `row`, of a table whose first column are keys.

    Args:
        database: where to.
        table: name of the new table.
        held: a pinned table, or rows in memory.
    """
    schema = pa.schema([*key_fields("k"), pa.field("row", pa.int64())])
    fill(database, table, schema, _numbered(_key_arrays(held)))


def number_of(database: duckdb.DuckDBPyConnection, query: str) -> int | None:
    """The one number that a query gives."""
    ((value,),) = database.execute(query).fetchall()
    return value


def same_key(left: str, right: str) -> str:
    """SQL that compares two keys, each given as `<table>.<prefix>`."""
    return " AND ".join(f"{left}{word} = {right}{word}" for word in range(4))


def _key_arrays(held: TableVersion | pa.Table) -> Iterator[pa.StringArray]:
    if isinstance(held, pa.Table):
        chunks: Iterable[pa.StringArray] = held.column(0).chunks
        yield from chain.from_iterable(
            (chunk.slice(start, BATCH_ROWS) for start in range(0, len(chunk), BATCH_ROWS)) for chunk in chunks
        )
        return
    dataset = held.open()
    scanner = dataset.scanner(columns=dataset.schema.names[:1], batch_size=BATCH_ROWS, scan_in_order=True)
    for batch in scanner.to_batches():
        yield batch.column(0)


def _numbered(arrays: Iterable[pa.StringArray]) -> Iterator[Columns]:
    first = 0
    for keys in arrays:
        yield key_columns("k", from_hex(keys)) | {"row": np.arange(first, first + len(keys))}
        first += len(keys)
