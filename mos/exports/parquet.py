"""Rows of the samples table -> a Parquet file that `datasets` of Hugging Face loads with its pictures.

An image column is a struct `{bytes, path}`; what it is called there stands as JSON in the schema's metadata, under
`huggingface`, as that library writes it.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mos.exports.rows import is_payload, suffix_of
from mos.files import written_whole

ROW_GROUP_ROWS = 100
"""What the hub's viewer and readers of single rows fetch at once."""
ROW_GROUP_BYTES = 64 * 2**20
IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
"""
"""What a dataset's README.md begins with: which files are which split."""


def write_parquet(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write a shard, whole or not at all; the number of its rows.

    Args:
        path: of the file, in a folder that is there.
        batches: rows of the samples table.
        schema: of these.
    """
    stored, num = stored_schema(schema), 0
    with written_whole(path) as partial, pq.ParquetWriter(partial, stored) as writer:
        for group in _groups(map(_as_stored, batches)):
            writer.write_table(group.cast(stored))
            num += group.num_rows
    return num


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """Columns of the file, with the metadata that tells `datasets` what they are."""
    fields = [pa.field(field.name, IMAGE) if is_payload(field) else field for field in schema]
    features = {field.name: _feature(field) for field in fields}
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def _feature(field: pa.Field) -> dict[str, str]:
    return {"_type": "Image"} if field.type == IMAGE else {"dtype": _dtype(field.type), "_type": "Value"}


def _dtype(type: pa.DataType) -> str:
    return {pa.float32(): "float32", pa.float64(): "float64"}.get(type, str(type))


def _as_stored(batch: pa.RecordBatch) -> pa.Table:
    """The same rows, their pictures as structs."""
    table, ids = pa.Table.from_batches([batch]), batch.column("sample_id").to_pylist()
    for place, field in enumerate(batch.schema):
        if is_payload(field):
            table = table.set_column(place, pa.field(field.name, IMAGE), _pictures(batch.column(place), ids))
    return table


def _pictures(column: pa.Array, ids: list[str]) -> pa.Array:
    pictures: list[dict[str, Any] | None] = [
        None if data is None else {"bytes": data, "path": f"{id}.{suffix_of(data)}"}
        for id, data in zip(ids, column.to_pylist(), strict=True)
    ]
    return pa.array(pictures, IMAGE)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in as many tables as the file gets row groups."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= ROW_GROUP_ROWS or sum(part.nbytes for part in waiting) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
