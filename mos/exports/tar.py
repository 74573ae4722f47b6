"""Rows of the samples table -> a WebDataset shard that curation reads back as the same samples.

    <sample_id>.jpg          the picture, its bytes as they were stored, under the extension they ask for
    <sample_id>.txt          the caption
    <sample_id>.json         every other column that leaves: source, task, sizes, scores; `meta` as an object

An edit has its pictures as `<sample_id>.source.jpg` and `<sample_id>.target.jpg`, and its instruction as `.txt`.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from mos.exports.rows import Row, suffix_of
from mos.tars import tar_written_whole


def write_tar(path: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Write a shard, whole or not at all; the number of its samples."""
    num = 0
    with tar_written_whole(path) as writer:
        for batch in batches:
            for row in batch.to_pylist():
                writer.write({"__key__": row["sample_id"], **members(row)})
                num += 1
    return num


def members(row: Row) -> dict[str, bytes]:
    """The files of one sample by what stands behind its key."""
    image, reference, caption, meta = (row.pop(name) for name in ("image", "reference", "caption", "meta"))
    record = row if meta is None else {**row, "meta": json.loads(meta)}
    texts = {"txt": caption.encode(), "json": json.dumps(record, ensure_ascii=False, allow_nan=False).encode()}
    if reference is None:
        return {suffix_of(image): image, **texts}
    return {f"source.{suffix_of(reference)}": reference, f"target.{suffix_of(image)}": image, **texts}
