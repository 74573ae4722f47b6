"""Synthetic tables of any number of rows, written in bounded memory: light columns as after curation, no payloads.

Captions repeat as captions do (a fifth of them are among a thousand, the first far more often than the last), every
20th sample is an edit, every 50th has the picture of the one before, and every 10th is too small for the larger of two
resolutions.
"""

import hashlib
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa

from mos.curation.hashing import pair_id
from mos.curation.manifest import marks_schema
from mos.loader.index import EncodedTables
from mos.states.keys import context_key, latent_key
from mos.states.payload import StateCodec
from mos.tables.committer import latents_schema
from mos.tables.lance import TableVersion, commit_fragments, create_table, write_rows
from mos.tables.schema import TASK_EDIT, TASK_GENERATE, samples_schema
from mos.tables.state_tables import states_schema
from mos.tables.views import View

RESOLUTIONS = (32, 48)
CODEC = "codec-x"
BUCKETS = (("32x32", "48x48"), ("24x40", "40x56"), ("40x24", "56x40"), ("16x64", "24x96"))
PART = 50_000
"""Rows that are made, and written as one fragment, at a time."""
COMMON_CAPTIONS = 1_000
MARKS_AT_ONCE = 2_000
"""That a task of curation returns."""

TASKS = (TASK_GENERATE, TASK_EDIT)


def views() -> dict[str, View]:
    """The views of four stages: two of each resolution, the later ones of edits, too."""
    small, large = RESOLUTIONS
    return {
        "stage1": View(small),
        "stage2": View(large, filter="sharpness >= 0.1"),
        "stage3": View(large, filter="sharpness >= 0.5"),
        "edit": View(large, tasks=TASKS),
    }


def write_samples(folder: Path, num: int) -> TableVersion:
    """A samples table of so many rows."""
    return _write(f"{folder}/samples.lance", samples_schema(RESOLUTIONS), num, _samples)


def write_encodings(folder: Path, samples: TableVersion, with_rows: bool = True) -> EncodedTables:
    """States and latents of all samples, or tables without rows."""
    num = samples.rows if with_rows else 0
    states = states_schema("tower-x", StateCodec("bf16", (0, 1), 8))
    latents = latents_schema(CODEC, 12, 2)
    return EncodedTables(
        samples=samples,
        states=_write(f"{folder}/states.lance", states, num, _states),
        latents=_write(f"{folder}/latents.lance", latents, num, _latents),
        codec_id=CODEC,
        sees_images=False,
    )


def write_marks(folder: Path, num: int, first: int = 0) -> None:
    """Fragments of so many new samples from a number on, which nobody commits, and `marks-<first>.arrow` of them.

    Of fifty, one has the id of one before, and of thirty-three, one has its caption and all but two bits of its hash.
    """
    uri = f"{folder}/curated.lance"
    create_table(uri, samples_schema(RESOLUTIONS))
    schema = marks_schema(RESOLUTIONS)
    with pa.OSFile(f"{folder}/marks-{first}.arrow", "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for start in range(first, first + num, PART):
            rows = _with_copies(_samples(range(start, min(start + PART, first + num))))
            (fragment,) = write_rows(uri, rows)
            count, name = rows.num_rows, json.loads(fragment)["files"][0]["path"]
            more = {
                "unit": pa.array(np.full(count, start // PART), pa.int32()),
                "order": pa.array(np.arange(start, start + count)),
                "fragment": pa.array([fragment, *[None] * (count - 1)], pa.string()),
                "fragment_name": pa.array([name] * count),
                "place": pa.array(np.arange(count), pa.int32()),
            }
            columns = {field.name: pa.nulls(count, field.type) for field in schema}
            columns |= {name: rows.column(name) for name in rows.column_names if name in columns} | more
            for batch in pa.table(columns, schema=schema).to_batches(MARKS_AT_ONCE):
                writer.write_batch(batch)


def _with_copies(rows: pa.Table) -> pa.Table:
    """The rows, some of which repeat those before them."""
    ids, pairs, hashes = (rows.column(name).to_pylist() for name in ("sample_id", "pair", "phash"))
    for row in range(5, len(ids)):
        if row % 50 == 7:
            ids[row] = ids[row - 5]
        elif row % 33 == 5:
            pairs[row], hashes[row] = pairs[row - 3], f"{int(hashes[row - 3], 16) ^ 0x8001:016x}"
    for name, values in (("sample_id", ids), ("pair", pairs), ("phash", hashes)):
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values))
    return rows


def caption_of(number: int) -> str:
    """Caption of a sample."""
    if number % 5 == 0:
        common = int(COMMON_CAPTIONS ** ((number * 0.6180339887) % 1.0))
        return f"image {common}"
    return f"a picture of thing {number}, seen from {'very ' * (number % 13)}far away"


def image_of(number: int) -> str:
    """Hash of a sample's picture."""
    return _digest("image", number - 1 if number % 50 == 49 else number)


def _samples(part: range) -> pa.Table:
    """Rows of the samples table, a twentieth of them edits."""
    numbers = np.fromiter(part, np.int64)
    is_edit = numbers % 20 == 19
    captions = [caption_of(number) for number in part]
    references = [_digest("reference", number) if number % 20 == 19 else None for number in part]
    pictures = [image_of(number) for number in part]
    kinds = numbers // 50 % len(BUCKETS)
    count = len(numbers)
    columns = {
        "sample_id": [_digest("sample", number) for number in part],
        "task": np.array(TASKS)[is_edit.astype(int)],
        "source": np.array(["a", "b", "edits"])[np.where(is_edit, 2, numbers % 2)],
        "shard": [f"shard-{part.start:09d}"] * count,
        "key": numbers.astype(str),
        "image": [b""] * count,
        "image_hash": pictures,
        "reference": pa.nulls(count, pa.large_binary()),
        "reference_hash": references,
        "caption": captions,
        "width": np.full(count, 64),
        "height": np.full(count, 64),
        "aspect": np.ones(count),
        "caption_length": [len(caption) for caption in captions],
        "caption_words": [caption.count(" ") + 1 for caption in captions],
        "sharpness": (numbers * 0.7548776662 % 1.0),
        "contrast": np.ones(count),
        "entropy": np.ones(count),
        "pair": [pair_id(reference, caption) for reference, caption in zip(references, captions, strict=True)],
        "phash": [digest[:16] for digest in pictures],
        "aesthetic": pa.nulls(count, pa.float32()),
        "alignment": pa.nulls(count, pa.float32()),
        "meta": pa.nulls(count, pa.string()),
        "bucket_32": np.array([small for small, _ in BUCKETS])[kinds],
        "bucket_48": pa.array(np.array([large for _, large in BUCKETS])[kinds], mask=numbers % 10 == 3),
    }
    schema = samples_schema(RESOLUTIONS)
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _states(part: range) -> pa.Table:
    """The contexts of some samples, each where its caption comes first, and the null context before all."""
    captions = [""] if part.start == 0 else []
    captions += [f"image {number}" for number in part if number < COMMON_CAPTIONS]
    captions += [caption_of(number) for number in part if number % 5]
    keys = [context_key(caption) for caption in captions]
    return pa.table({"context_key": keys, "num_tokens": pa.array([1] * len(keys), pa.int32())})


def _latents(part: range) -> pa.Table:
    """Pictures and references of some samples in both resolutions."""
    keys, buckets = [], []
    for number in part:
        images = [image_of(number)] if number % 50 != 49 else []
        images += [_digest("reference", number)] if number % 20 == 19 else []
        sizes = BUCKETS[number // 50 % len(BUCKETS)]
        for image, bucket in product(images, sizes):
            keys.append(latent_key(image, CODEC, bucket))
            buckets.append(bucket)
    return pa.table({"latent_key": keys, "bucket": buckets})


def _write(uri: str, schema: pa.Schema, num: int, rows: Callable[[range], pa.Table]) -> TableVersion:
    """A table of the rows that stand for so many samples, a fragment a part; payloads are empty."""
    table = create_table(uri, schema)
    fragments, total = [], 0
    for start in range(0, num, PART):
        part = rows(range(start, min(start + PART, num)))
        if "payload" in schema.names:
            part = part.append_column("payload", pa.array([b""] * part.num_rows, pa.large_binary()))
        fragments += write_rows(uri, part.cast(schema))
        total += part.num_rows
    return commit_fragments(uri, fragments, total) if fragments else table


def _digest(kind: str, number: int) -> str:
    return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()
