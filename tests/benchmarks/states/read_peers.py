"""The ways to store and read large rows that the read path is compared with; all write the same bytes."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lance.fragment import write_fragments

from mos.tables.lance import TableVersion, commit_fragments, create_table, write_rows
from mos.tables.payloads import PayloadTable, RowCache
from mos.tables.schema import PAYLOAD

try:
    import webdataset
except ImportError:
    webdataset = None

SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("num_tokens", pa.int32()), PAYLOAD])
FRAGMENT_BYTES = 128 * 2**20
ROWS_PER_GROUP = 16
"""Of a Parquet file."""
THREADS = 8


@dataclass(frozen=True)
class Work:
    """Rows of one size."""

    prefix: str
    """Of the figures' ids."""
    row_bytes: int
    num_rows: int
    batch: int = 16
    """Rows of a batch."""

    @property
    def num_bytes(self) -> int:
        """Of all rows."""
        return self.row_bytes * self.num_rows

    def payload(self, row: int) -> bytes:
        """Bytes that do not compress; each row has others."""
        pool = _random_bytes(self.row_bytes)
        start = row * 4099 % self.row_bytes
        return pool[start : start + self.row_bytes]

    def shuffled(self) -> list[list[int]]:
        """Batches of rows, every row in one of them, sorted within a batch as a loader asks for them."""
        order = np.random.default_rng(0).permutation(self.num_rows)
        return [sorted(order[start : start + self.batch].tolist()) for start in range(0, self.num_rows, self.batch)]

    def tables(self) -> Iterator[pa.Table]:
        """The rows in parts of a fragment each."""
        part = max(FRAGMENT_BYTES // self.row_bytes, 1)
        for start in range(0, self.num_rows, part):
            rows = range(start, min(start + part, self.num_rows))
            columns = [[str(row) for row in rows], [1] * len(rows), [self.payload(row) for row in rows]]
            yield pa.table(
                [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
            )


_POOLS: dict[int, bytes] = {}


def _random_bytes(row_bytes: int) -> bytes:
    if row_bytes not in _POOLS:
        _POOLS[row_bytes] = np.random.default_rng(0).bytes(2 * row_bytes)
    return _POOLS[row_bytes]


def write_blobs(work: Work, uri: str) -> TableVersion:
    """Our table."""
    create_table(uri, SCHEMA)
    fragments = [fragment for rows in work.tables() for fragment in write_rows(uri, rows)]
    return commit_fragments(uri, fragments, work.num_rows)


def write_large_binary(work: Work, uri: str) -> lance.LanceDataset:
    """The same rows with a `large_binary` column, in the Lance format that takes it fastest."""
    plain = pa.schema(
        [pa.field("payload", pa.large_binary()) if field.name == "payload" else field for field in SCHEMA]
    )
    lance.LanceDataset.commit(uri, lance.LanceOperation.Overwrite(plain, []))
    fragments = [
        fragment
        for rows in work.tables()
        for fragment in write_fragments(rows.cast(plain), uri, schema=plain, mode="append", data_storage_version="2.0")
    ]
    return lance.LanceDataset.commit(uri, lance.LanceOperation.Append(fragments), read_version=1)


def write_flat(work: Work, path: Path) -> None:
    """One payload after the other."""
    with path.open("wb") as file:
        for row in range(work.num_rows):
            file.write(work.payload(row))


def write_tar(work: Work, path: Path) -> None:
    """One member a row, as WebDataset wants it."""
    with tarfile.open(path, "w") as tar:
        for row in range(work.num_rows):
            member = tarfile.TarInfo(f"{row:08d}.bin")
            member.size = work.row_bytes
            tar.addfile(member, io.BytesIO(work.payload(row)))


def write_parquet(work: Work, path: Path) -> None:
    """Uncompressed, without a dictionary."""
    with pq.ParquetWriter(path, SCHEMA, compression="none", use_dictionary=False) as writer:
        for rows in work.tables():
            writer.write_table(rows, row_group_size=ROWS_PER_GROUP)


def read_blobs(table: TableVersion, batches: Sequence[list[int]]) -> Callable[[], None]:
    """Ours: shuffled batches."""
    reader = PayloadTable(table, ["num_tokens"], RowCache(0))

    def run() -> None:
        for rows in batches:
            reader.payloads(rows)

    return run


def read_through_lance(table: TableVersion, batches: Sequence[list[int]]) -> Callable[[], None]:
    """Lance's planned reads of the same blobs."""
    dataset = table.open()

    def run() -> None:
        for rows in batches:
            dataset.read_blobs("payload", indices=rows, preserve_order=True)

    return run


def take_large_binary(dataset: lance.LanceDataset, batches: Sequence[list[int]]) -> Callable[[], None]:
    """`take` of shuffled batches."""

    def run() -> None:
        for rows in batches:
            dataset.take(rows, columns=["num_tokens", "payload"])

    return run


def scan_large_binary(dataset: lance.LanceDataset, rows_per_batch: int) -> Callable[[], None]:
    """All rows in order."""

    def run() -> None:
        for _ in dataset.to_batches(columns=["num_tokens", "payload"], batch_size=rows_per_batch):
            pass

    return run


def read_parquet_rows(path: Path, batches: Sequence[list[int]]) -> Callable[[], None]:
    """One random row at a time: its row group, then the row."""
    file = pq.ParquetFile(path)

    def run() -> None:
        for rows in batches:
            for row in rows:
                file.read_row_group(row // ROWS_PER_GROUP).slice(row % ROWS_PER_GROUP, 1)

    return run


def read_tar(path: Path) -> tuple[str, Callable[[], None]]:
    """All rows in order, by WebDataset where it is installed; and the peer's name."""
    if webdataset is None:
        return "tar, sequential", lambda: _read_plain_tar(path)

    def run() -> None:
        for sample in webdataset.WebDataset(str(path), shardshuffle=False):
            assert sample["bin"]

    return f"WebDataset {webdataset.__version__}, sequential", run


def read_flat(path: Path, work: Work, batches: Sequence[list[int]], num_threads: int) -> Callable[[], None]:
    """`preadv` of shuffled batches into one buffer."""
    descriptor, view = os.open(path, os.O_RDONLY), memoryview(bytearray(work.batch * work.row_bytes))
    threads = ThreadPoolExecutor(num_threads)

    def read(place: int, row: int) -> None:
        target = view[place * work.row_bytes : (place + 1) * work.row_bytes]
        assert os.preadv(descriptor, [target], row * work.row_bytes) == work.row_bytes

    def run() -> None:
        for rows in batches:
            if num_threads == 1:
                for place, row in enumerate(rows):
                    read(place, row)
            else:
                list(threads.map(read, range(len(rows)), rows))

    return run


def _read_plain_tar(path: Path) -> None:
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            assert len(file.read()) == member.size
