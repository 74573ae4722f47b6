"""Small samples tables with real pictures in them, as curation would leave them."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from PIL import Image

from mos.curation.hashing import pair_id
from mos.tables.lance import TableVersion, commit_fragments, create_table, write_rows
from mos.tables.schema import TASK_EDIT, TASK_GENERATE, samples_schema
from mos.tables.views import View

RESOLUTIONS = (32, 48)


@dataclass(frozen=True)
class Pair:
    """One sample to be: colours stand for pictures; an edit has a reference."""

    caption: str
    colour: str = "red"
    reference: str | None = None
    buckets: tuple[str | None, ...] = ("32x32", "48x48")
    broken: bool = False


def views(*resolutions: int) -> list[View]:
    """All samples with a bucket at some resolutions."""
    return [View(resolution, tasks=(TASK_GENERATE, TASK_EDIT)) for resolution in resolutions]


def picture(colour: str, size: tuple[int, int] = (64, 48)) -> bytes:
    """A PNG of two halves."""
    image = Image.new("RGB", size, colour)
    image.paste("white", (0, 0, size[0] // 2, size[1]))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def append_samples(folder: Path, pairs: list[Pair]) -> TableVersion:
    """Append the rows of pairs to `<folder>/samples.lance`."""
    table = create_table(str(folder / "samples.lance"), samples_schema(RESOLUTIONS))
    return append_rows(folder, [sample_row(table.rows + index, pair) for index, pair in enumerate(pairs)])


def append_rows(folder: Path, rows: list[dict]) -> TableVersion:
    """Append rows, in a fragment of their own, to `<folder>/samples.lance`."""
    schema = samples_schema(RESOLUTIONS)
    table = create_table(str(folder / "samples.lance"), schema)
    return commit_fragments(table.uri, write_rows(table.uri, pa.Table.from_pylist(rows, schema=schema)), len(rows))


def sample_row(index: int, pair: Pair) -> dict:
    """The row of a pair; its index makes its key and its id."""
    image = picture(pair.colour)[:60] if pair.broken else picture(pair.colour)
    reference = None if pair.reference is None else picture(pair.reference)
    reference_hash = None if reference is None else hashlib.sha256(reference).hexdigest()
    return {
        "sample_id": hashlib.sha256(str(index).encode()).hexdigest(),
        "task": TASK_GENERATE if reference is None else TASK_EDIT,
        "source": "test",
        "shard": "none",
        "key": str(index),
        "image": image,
        "image_hash": hashlib.sha256(image).hexdigest(),
        "reference": reference,
        "reference_hash": reference_hash,
        "caption": pair.caption,
        "width": 64,
        "height": 48,
        "aspect": 64 / 48,
        "caption_length": len(pair.caption),
        "caption_words": len(pair.caption.split()),
        "sharpness": 1.0,
        "contrast": 0.1,
        "entropy": 1.0,
        "pair": pair_id(reference_hash, pair.caption),
        "phash": "0" * 16,
        **{f"bucket_{resolution}": bucket for resolution, bucket in zip(RESOLUTIONS, pair.buckets, strict=True)},
    }
