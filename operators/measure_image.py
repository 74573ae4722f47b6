"""Luma, bytes and captions -> scores that need no model, and the hashes that name a sample."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from mos.curation.hashing import pair_id, perceptual_hash, sample_id
from mos.curation.items import still_in
from mos.fingerprint import sha256_hex
from mos.images.measure import measure

MEASURED = pa.schema(
    [
        pa.field("aspect", pa.float32()),
        pa.field("caption_length", pa.int32()),
        pa.field("caption_words", pa.int32()),
        pa.field("sharpness", pa.float32()),
        pa.field("contrast", pa.float32()),
        pa.field("entropy", pa.float32()),
        pa.field("image_hash", pa.string()),
        pa.field("reference_hash", pa.string()),
        pa.field("sample_id", pa.string()),
        pa.field("pair", pa.string()),  # see mos.curation.hashing.pair_id
        pa.field("phash", pa.string()),
        pa.field("aesthetic", pa.float32()),
        pa.field("alignment", pa.float32()),
    ]
)
"""What is added; all null for refused items, the last two until a scorer fills them."""


class MeasureImage:
    """Measures and hashes every item.

    Reads   image, reference, caption, width, height, luma, luma_width, reason
    Writes  the columns of `MEASURED`; drops luma and luma_width
    """

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with its measurements."""
        rows: list[dict[str, Any]] = [{}] * batch.num_rows
        columns = batch.select(["image", "reference", "caption", "width", "height", "luma", "luma_width"])
        for row in still_in(batch):
            rows[row] = _measure_row(columns.slice(row, 1).to_pylist()[0])
        measured = pa.Table.from_pylist(rows, schema=MEASURED)
        batch = batch.drop_columns(["luma", "luma_width"])
        for field in MEASURED:
            batch = batch.append_column(field, measured.column(field.name))
        return batch


def _measure_row(item: dict[str, Any]) -> dict[str, Any]:
    luma = np.frombuffer(item["luma"], np.uint8).reshape(-1, item["luma_width"])
    image_hash = sha256_hex(item["image"])
    reference_hash = None if item["reference"] is None else sha256_hex(item["reference"])
    caption = item["caption"]
    return {
        "aspect": item["width"] / item["height"],
        "caption_length": len(caption),
        "caption_words": len(caption.split()),
        **asdict(measure(luma)),
        "image_hash": image_hash,
        "reference_hash": reference_hash,
        "sample_id": sample_id(image_hash, reference_hash, caption),
        "pair": pair_id(reference_hash, caption),
        "phash": perceptual_hash(luma),
    }
