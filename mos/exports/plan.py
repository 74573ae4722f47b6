"""A view of the samples table at one version, cut into shards: which rows each holds, no row read in full."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mos.errors import UserError
from mos.exports.config import ExportFormat
from mos.tables.lance import TableVersion

ROWS_PER_BATCH = 65_536
"""Rows whose addresses are in memory at once while a view is cut."""


@dataclass(frozen=True)
class Shard:
    """Rows of one file: those of a view, and of one source where there is one, between two addresses."""

    name: str
    """Of its file, relative to the export's folder."""
    source: str
    """Source of every row; empty: any."""
    task: str
    """Of every row, where there is a source."""
    first: int
    last: int
    """Lance's `_rowaddr`, both included."""
    num: int
    """Rows."""


@dataclass
class _Series:
    """The shards of a source, or of all, in the order of the table."""

    source: str
    task: str
    size: int
    shards: list[Shard] = field(default_factory=list)

    def add(self, addresses: NDArray[np.int64]) -> None:
        """Take the next rows."""
        if self.shards and (room := self.size - self.shards[-1].num):
            taken, addresses = addresses[:room], addresses[room:]
            if len(taken):
                shard = self.shards[-1]
                self.shards[-1] = replace(shard, last=int(taken[-1]), num=shard.num + len(taken))
        for start in range(0, len(addresses), self.size):
            part = addresses[start : start + self.size]
            self.shards.append(Shard("", self.source, self.task, int(part[0]), int(part[-1]), len(part)))


def plan_shards(samples: TableVersion, where: str, format: ExportFormat, size: int) -> list[Shard]:
    """The shards of a view; WebDataset's hold one source each, as curation wants them.

    Args:
        samples: pinned.
        where: SQL over its columns; empty: every row.
        format: decides names, and whether sources are kept apart.
        size: rows of a shard.

    Raises:
        UserError: `where` is no expression over the table's columns, or a source has two tasks.
    """
    series: dict[str, _Series] = {}
    for source, task, addresses in _addresses(samples.open(), where, by_source=format == "webdataset"):
        found = series.setdefault(source, _Series(source, task, size))
        if found.task != task:
            raise UserError(f"source {source!r} has pairs and edits, which curation keeps apart: curate it anew")
        found.add(addresses)
    return [shard for source in sorted(series) for shard in _named(series[source].shards, format)]


def rows_of(shard: Shard, where: str) -> str:
    """SQL that is true for the rows of a shard alone."""
    clauses = [f"_rowaddr >= {shard.first} AND _rowaddr <= {shard.last}"]
    if shard.source:
        clauses.append("source = '{}'".format(shard.source.replace("'", "''")))
    if where:
        clauses.append(f"({where})")
    return " AND ".join(clauses)


def _addresses(dataset: lance.LanceDataset, where: str, by_source: bool) -> Iterator[tuple[str, str, NDArray]]:
    """Source, task and addresses of the rows of a view, in the order of the table, some at a time."""
    try:
        scanner = dataset.scanner(
            columns=["source", "task"],
            filter=where or None,
            with_row_address=True,
            scan_in_order=True,
            batch_size=ROWS_PER_BATCH,
        )
        scanner.explain_plan()
    except (ValueError, OSError) as error:
        raise UserError(f"filter {where!r} is refused: {str(error).splitlines()[0]}") from error
    for batch in scanner.to_batches():
        addresses = batch.column("_rowaddr").to_numpy().astype(np.int64)
        if not by_source:
            yield "", "", addresses
            continue
        kinds = pa.table(batch.select(["source", "task"])).group_by(["source", "task"], use_threads=False).aggregate([])
        for kind in kinds.to_pylist():
            rows = pc.and_(*(pc.equal(batch.column(name), value) for name, value in kind.items()))
            yield kind["source"], kind["task"], addresses[rows.to_numpy(zero_copy_only=False)]


def _named(shards: Sequence[Shard], format: ExportFormat) -> list[Shard]:
    match format:
        case "webdataset":
            return [replace(shard, name=f"{shard.source}-{number:05d}.tar") for number, shard in enumerate(shards)]
        case "parquet":
            names = (f"data/train-{number:05d}-of-{len(shards):05d}.parquet" for number in range(len(shards)))
            return [replace(shard, name=name) for shard, name in zip(shards, names, strict=True)]


SHARDS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("first", pa.int64(), nullable=False),
        pa.field("last", pa.int64(), nullable=False),
        pa.field("num", pa.int64(), nullable=False),
    ]
)
"""A `Shard` as a row."""
