"""Manifest of a curation: a light row per item with its id, its verdict so far, and where its full row stands.

It is a database for the length of a run, so it may be more than memory holds: some 300 bytes an item under `TMPDIR`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from mos.curation.duplicates import refuse_copies
from mos.images.reasons import Notice
from mos.tables.key_columns import add_words, hex_columns, keys_of_columns, to_hex
from mos.tables.lance import TableVersion
from mos.tables.schema import REJECTS, samples_schema
from mos.tables.workspace import BATCH_ROWS, append, create, key_fields, number_of, workspace

HASHES = {"sample_id": 4, "pair": 1, "phash": 1}
"""Columns of hex digits, and how many 64-bit words they stand as in the database."""
PAYLOADS = ("image", "reference", "meta")
REJECTS_AT_ONCE = 250_000


def marks_schema(resolutions: Sequence[int]) -> pa.Schema:
    """Columns of a mark; from `sample_id` on they are null for a refused item."""
    fields = [pa.field(name, pa.string()) for name in ("source", "shard", "key", "reason", "detail")]
    fields += [pa.field("unit", pa.int32()), pa.field("order", pa.int64())]
    fields += [pa.field(name, pa.string()) for name in HASHES]
    fields += [pa.field(f"bucket_{side}", pa.string()) for side in resolutions]
    fields += [
        pa.field("fragment", pa.string()),  # FragmentMetadata as JSON, on the fragment's first row only
        pa.field("fragment_name", pa.string()),  # its data file
        pa.field("place", pa.int32()),  # row inside the fragment
    ]
    return pa.schema(fields)


def light_schema(resolutions: Sequence[int]) -> pa.Schema:
    """Columns of a mark that stands for its sample: all of those but the bytes."""
    light = [field.with_nullable(True) for field in samples_schema(tuple(resolutions)) if field.name not in PAYLOADS]
    verdict = [pa.field("reason", pa.string()), pa.field("detail", pa.string())]
    return pa.schema([*light, *verdict, pa.field("unit", pa.int32()), pa.field("order", pa.int64())])


class Manifest:
    """The items of a run; made by `manifest_of`."""

    def __init__(self, database: duckdb.DuckDBPyConnection, schema: pa.Schema) -> None:
        self._database, self._schema = database, schema
        fields = [
            field
            for given in schema
            for field in (key_fields(given.name)[: HASHES[given.name]] if given.name in HASHES else [given])
        ]
        self._stored = pa.schema([field.with_nullable(True) for field in fields])
        self._resolutions = [name.removeprefix("bucket_") for name in schema.names if name.startswith("bucket_")]
        self._notices = Counter[str]()
        self._waiting: list[pa.Table] = []
        create(database, "marks", self._stored)

    def add(self, marks: pa.Table) -> None:
        """Add items, in any order, and count the notices among them; before `refuse_copies`."""
        is_notice = is_notice_row(marks)
        for row in marks.filter(is_notice).select(["reason", "detail"]).to_pylist():
            self._notices[row["reason"]] += int(row["detail"])
        self._waiting.append(marks.filter(pc.invert(is_notice)).select(self._schema.names))
        if sum(part.num_rows for part in self._waiting) >= BATCH_ROWS:
            self._append_waiting()

    @property
    def _all(self) -> duckdb.DuckDBPyConnection:
        """The database with all items that were added."""
        if self._waiting:
            self._append_waiting()
        return self._database

    def _append_waiting(self) -> None:
        """Small parts together: each append takes some milliseconds, whatever its size."""
        items = pa.concat_tables([self._schema.empty_table(), *self._waiting])
        self._waiting.clear()
        for start in range(0, items.num_rows, BATCH_ROWS):
            part = items.slice(start, BATCH_ROWS)
            columns = {name: part.column(name).combine_chunks() for name in self._schema.names}
            for name, words in HASHES.items():
                columns |= hex_columns(name, columns.pop(name), words)
            append(self._database, "marks", self._stored, columns)

    def refuse_copies(self, kept: TableVersion | None, near_bits: int) -> None:
        """Refuse every item that repeats a kept sample or an item before it, see `mos.curation.duplicates`; once."""
        refuse_copies(self._all, kept, near_bits)

    @property
    def notices(self) -> dict[str, int]:
        """How often each notice was given, the most frequent first."""
        return dict(self._notices.most_common())

    @property
    def num_items(self) -> int:
        """Items, kept and refused."""
        return self._count("true")

    @property
    def num_kept(self) -> int:
        """Items that nothing refused."""
        return self._count("reason IS NULL")

    @property
    def num_written(self) -> int:
        """Items whose row stands in a fragment, copies among them."""
        return self._count("place IS NOT NULL")

    def reasons(self) -> dict[str, int]:
        """Refused items by reason, the most frequent first."""
        return self._counts("reason", "true")

    def buckets(self) -> dict[str, dict[str, int]]:
        """Kept items by resolution and bucket, the fullest first."""
        return {side: self._counts(f"bucket_{side}", "reason IS NULL") for side in self._resolutions}

    def sum_of_ids(self) -> int:
        """Sum of the kept items' ids, see `mos.tables.key_columns.add_words`."""
        sums = ", ".join(f"sum(sample_id{word})" for word in range(4))
        (row,) = self._all.execute(f"SELECT {sums} FROM marks WHERE reason IS NULL").fetchall()
        return add_words([row])

    def fragments(self) -> list[str]:
        """The fragments that items were written to."""
        query = 'SELECT fragment FROM marks WHERE fragment IS NOT NULL ORDER BY "order"'
        return [text for (text,) in self._all.execute(query).fetchall()]

    def written_copies(self) -> Iterator[tuple[str, list[int]]]:
        """Items that were refused after they were written: fragment by fragment its name and their places in it."""
        chosen = "place IS NOT NULL AND reason IS NOT NULL"
        query = f"SELECT fragment_name, list(place ORDER BY place) FROM marks WHERE {chosen} GROUP BY fragment_name"
        with self._all.cursor() as reading:
            for batch in reading.sql(query).to_arrow_reader(1024):
                yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)

    def rejects(self) -> Iterator[pa.Table]:
        """The refused items in order, REJECTS, some at a time."""
        columns = ", ".join(REJECTS.names)
        query = f'SELECT {columns} FROM marks WHERE reason IS NOT NULL ORDER BY "order"'
        with self._all.cursor() as reading:
            for batch in reading.sql(query).to_arrow_reader(REJECTS_AT_ONCE):
                yield pa.Table.from_batches([batch]).cast(REJECTS)

    def items(self, where: str = "true") -> pa.RecordBatchReader:
        """Items in order, with the columns they were added with; the manifest answers nothing else meanwhile.

        Args:
            where: SQL that chooses some of them.
        """
        found = self._all.sql(f'SELECT * FROM marks WHERE {where} ORDER BY "order"')
        batches = (self._restored(batch) for batch in found.to_arrow_reader(BATCH_ROWS))
        return pa.RecordBatchReader.from_batches(self._schema, batches)

    def _restored(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            _hex(batch, name) if name in HASHES else batch.column(name).cast(self._schema.field(name).type)
            for name in self._schema.names
        ]
        return pa.record_batch(columns, schema=self._schema)

    def _count(self, where: str) -> int:
        return number_of(self._all, f"SELECT count(*) FROM marks WHERE {where}") or 0

    def _counts(self, column: str, where: str) -> dict[str, int]:
        query = f"SELECT {column}, count(*) AS n FROM marks WHERE {where} AND {column} IS NOT NULL GROUP BY 1"
        return dict(self._all.execute(f"{query} ORDER BY n DESC, 1").fetchall())


@contextmanager
def manifest_of(schema: pa.Schema) -> Iterator[Manifest]:
    """An empty manifest of marks with these columns, `marks_schema` or `light_schema`; it goes when the block ends."""
    with workspace() as database:
        yield Manifest(database, schema)


def is_notice_row(rows: pa.Table) -> pa.ChunkedArray:
    """Mask of rows that count something that is no item."""
    notices = pa.array([str(notice) for notice in Notice], pa.string())
    return pc.is_in(rows.column("reason").cast(pa.string()), value_set=notices)


def _hex(batch: pa.RecordBatch, name: str) -> pa.StringArray:
    """A column of hex digits from its words, null where they are."""
    lacking = batch.column(f"{name}0").is_null()
    names = [f"{name}{word}" for word in range(HASHES[name])]
    filled = pa.record_batch([pc.fill_null(batch.column(word), 0) for word in names], names)
    return pc.if_else(lacking, None, to_hex(keys_of_columns(name, filled, len(names))))
