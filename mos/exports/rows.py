"""The rows of one shard of an export, read a few at a time, and what each is called outside."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from mos.exports.plan import Shard, rows_of
from mos.images.formats import SUFFIXES, sniff
from mos.tables.lance import TableVersion

STAYS = ("shard",)
"""Columns that do not leave: paths of this machine."""
READ_AHEAD_BYTES = 64 * 2**20
"""Bytes that Lance may hold while it reads."""
ROWS_PER_BATCH = 32
"""Rows whose pictures are in memory at once, and as many read ahead."""


def read_rows(samples: TableVersion, shard: Shard, where: str) -> Iterator[pa.RecordBatch]:
    """A shard's rows in the order of the table, in the columns of `exported_schema`.

    Args:
        samples: pinned: the version that the shard was planned on.
        shard: which rows.
        where: SQL of the view.
    """
    dataset = samples.open()
    fragments = [
        fragment
        for fragment in dataset.get_fragments()
        if shard.first >> 32 <= fragment.fragment_id <= shard.last >> 32
    ]
    scanner = dataset.scanner(
        columns=exported_schema(samples).names,
        filter=rows_of(shard, where),
        fragments=fragments,
        scan_in_order=True,
        batch_size=ROWS_PER_BATCH,
        batch_readahead=1,
        fragment_readahead=1,
        io_buffer_size=READ_AHEAD_BYTES,
        late_materialization=True,  # pictures of the chosen rows alone
    )
    return scanner.to_batches()


def exported_schema(samples: TableVersion) -> pa.Schema:
    """The columns that leave."""
    return pa.schema([field for field in samples.open().schema if field.name not in STAYS])


def suffix_of(picture: bytes) -> str:
    """Extension that the bytes of a stored picture ask for: `jpg`, `png`, `webp`, ..."""
    format = sniff(picture)
    if format not in SUFFIXES:
        raise RuntimeError(f"a stored picture that begins with {picture[:16]!r} is of no format that curation keeps")
    return SUFFIXES[format][0]


def is_payload(field: pa.Field) -> bool:
    """True if a column holds the bytes of pictures."""
    return pa.types.is_large_binary(field.type)


Row = dict[str, Any]
