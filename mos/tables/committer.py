"""Encoded rows on their way into a table: actors write and note fragments, committers append them, each key once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from mos.states.latents import LATENT_DTYPE
from mos.tables.append_once import KeyedAppender, WrittenFragment, without
from mos.tables.blobs import is_payload
from mos.tables.expected import Expected, NamedKeys, SortedKeys
from mos.tables.journal import Journal
from mos.tables.lance import TableVersion, held_among, is_written, pack_sizes, write_rows
from mos.tables.schema import LATENTS

Row = TypeVar("Row")

ENCODED = pa.schema(
    [
        pa.field("fragment", pa.string()),  # FragmentMetadata as JSON; null where every row failed
        pa.field("keys", pa.list_(pa.string()), nullable=False),  # key of every row of the fragment, in order
        pa.field("failed_keys", pa.list_(pa.string()), nullable=False),  # tasks that gave no row
        pa.field("failures", pa.list_(pa.string()), nullable=False),  # and why, in the same order
        pa.field("num_bytes", pa.int64()),  # of the fragment's rows in memory: payloads, and little else
        pa.field("quality", pa.string()),  # QualityReport of some of the rows as JSON; null where none was compared
    ]
)
"""Manifest row that travels from an encoding actor to the driver: one per fragment, already on disk."""


def latents_schema(codec_id: str, channels: int, stride: int) -> pa.Schema:
    """LATENTS of one codec."""
    return LATENTS.with_metadata(
        {"codec": codec_id, "channels": str(channels), "stride": str(stride), "dtype": LATENT_DTYPE}
    )


def within_bytes(rows: Iterable[Row], most: int, payload: Callable[[Row], bytes]) -> Iterator[list[Row]]:
    """Rows in runs whose payloads are at most so many bytes together, but for a row that is larger by itself; the last
    run may be empty.
    """
    run: list[Row] = []
    held = 0
    for row in rows:
        size = len(payload(row))
        if run and held + size > most:
            yield run
            run, held = [], 0
        run.append(row)
        held += size
    yield run


def payload_table(rows: Sequence[dict], schema: pa.Schema) -> pa.Table:
    """Rows as Arrow, on the very bytes of their payloads: these are not copied."""
    columns = [
        pa.chunked_array([_payload(row["payload"]) for row in rows], field.type)
        if is_payload(field)
        else pa.array([row[field.name] for row in rows], field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _payload(payload: bytes) -> pa.LargeBinaryArray:
    offsets = np.array([0, len(payload)], dtype=np.int64)
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(payload)])


def write_encoded(uri: str, rows: pa.Table, failures: dict[str, str], quality: str | None = None) -> pa.Table:
    """Write rows, whose first column is their key, as one fragment of a table; returns the ENCODED row.

    Safe to repeat: a fragment that is never committed is invisible to every reader. It is noted in the table's journal,
    so that the next run commits it if this one does not get to it.
    """
    fragments = write_rows(uri, rows) if rows.num_rows else []
    assert len(fragments) <= 1, "a batch of rows is one fragment"
    keys = rows.column(0).to_pylist()
    journal = Journal(uri)
    for fragment in fragments:
        journal.add(WrittenFragment(fragment, tuple(keys), pack_sizes(uri, fragment)))
    row = {
        "fragment": fragments[0] if fragments else None,
        "keys": keys,
        "failed_keys": list(failures),
        "failures": list(failures.values()),
        "num_bytes": rows.nbytes,
        "quality": quality,
    }
    return pa.Table.from_pylist([row], schema=ENCODED)


class Committer:
    """Appends fragments to one table, every few of them in a commit, each key once whoever else is appending.

    Call `recover` first, to commit what a killed run had written.
    """

    def __init__(self, table: TableVersion, fragments_per_commit: int) -> None:
        self.failures: dict[str, str] = {}
        """Key -> reason of every task that gave no row."""
        self.num_committed = 0
        """Rows this run has encoded and appended; less than it encoded where another run was faster."""
        self._appender = KeyedAppender(table)
        self._fragments_per_commit = fragments_per_commit
        self._named = NamedKeys()
        self._open: Expected = self._named
        self._waiting: list[WrittenFragment] = []
        self._num_taken = 0

    @property
    def table(self) -> TableVersion:
        """The table as of the last commit."""
        return self._appender.table

    @property
    def num_encoded(self) -> int:
        """Rows that have come, committed or not."""
        return self._num_taken + sum(len(written.keys) for written in self._waiting)

    def recover(self) -> int:
        """Commit what earlier runs wrote and never committed; returns the rows gained. Call it before `expect`.

        What a crash of the machine has cut short is left out: its rows are encoded again.
        """
        journal = Journal(self.table.uri)
        entries = journal.read()
        seen = held_among(self.table, {key for entry in entries for key in entry.keys})
        fresh = []
        for entry in entries:
            whole = is_written(self.table.uri, entry.fragment, entry.packs)
            part = without(self.table.uri, entry, seen) if whole else None
            if part is not None:
                fresh.append(part)
                seen |= set(part.keys)
        gained = self._appender.append(fresh)
        journal.remove(entries)
        return gained

    def expect(self, keys: Iterable[str]) -> None:
        """Name keys that will come, too; none of them is in `table` now."""
        self._named.name(keys)

    def expect_all(self, keys: SortedKeys) -> None:
        """Expect these keys and no others; none of them is in `table` now."""
        self._open = keys

    def add(self, rows: Sequence[dict]) -> None:
        """Take ENCODED rows; commits when enough have come.

        Raises:
            RuntimeError: a key came twice, or was never asked for.
        """
        for row in rows:
            self._open.take((*row["keys"], *row["failed_keys"]))
            self.failures |= dict(zip(row["failed_keys"], row["failures"], strict=True))
            if row["fragment"] is not None:
                self._waiting.append(WrittenFragment(row["fragment"], tuple(row["keys"])))
        if len(self._waiting) >= self._fragments_per_commit:
            self.commit()

    def finish(self) -> TableVersion:
        """Commit what is left; every expected key has come by now.

        Raises:
            RuntimeError: a key never came.
        """
        self.commit()
        if len(self._open):
            raise RuntimeError(f"{len(self._open)} rows for {self.table.uri} were never encoded")
        return self.table

    def commit(self) -> None:
        """Append the fragments collected so far, without the rows that another run has committed meanwhile.

        May be called again after an OSError.
        """
        if not self._waiting:
            return
        written = self._waiting
        self.num_committed += self._appender.append(written)
        # An OSError up to here is tried again; from here on that would append the rows twice.
        self._waiting = []
        self._num_taken += sum(len(one.keys) for one in written)
        Journal(self.table.uri).remove(written)
