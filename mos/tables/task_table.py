"""A table of tasks for as long as they are worked on: actors on any node read their pieces of it."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from lance.file import LanceFileSession

from mos.tables.lance import TableVersion, drop_table, open_table, write_table

FOLDER = "tasks"
MAX_AGE_S = 7 * 24 * 3600
"""A table that is older was left by a killed run: no step works so long on one, and a week is Lance's own margin."""


@contextmanager
def task_table(tables_folder: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[TableVersion]:
    """A new table of rows in this order, below a tables folder; it goes when the block ends."""
    drop_old(tables_folder)
    uri = f"{tables_folder}/{FOLDER}/{uuid.uuid4().hex}.lance"
    try:
        yield write_table(uri, schema, batches)
    finally:
        drop_table(uri)


def drop_old(tables_folder: str) -> None:
    """Remove what killed runs have left."""
    prefixes = LanceFileSession(tables_folder).list_with_delimiter(FOLDER).common_prefixes
    for name in (prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in prefixes):
        uri = f"{tables_folder}/{FOLDER}/{name}"
        if time.time() - open_table(uri).versions()[-1]["timestamp"].timestamp() > MAX_AGE_S:
            drop_table(uri)
