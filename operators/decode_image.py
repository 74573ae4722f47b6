"""Encoded images -> upright size and a small luma picture to measure; damaged ones are refused."""

import numpy as np
import pyarrow as pa

from mos.curation.items import refuse, still_in
from mos.images.decode import ImageLimits, decode_image, decode_with_header
from mos.images.measure import MEASURE_SIDE_PX
from mos.images.reasons import Reason, Rejected


class DecodeImage:
    """Decodes image and reference of every item, one at a time: only luma of at most 512 px a side is kept.

    Reads   image, reference: large_binary; reason
    Writes  width, height: int32 px (null if refused); luma: large_binary uint8 [luma_height][luma_width],
            luma_width: int32; reason, detail
    """

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with sizes and luma."""
        sizes: list[tuple[int | None, int | None]] = [(None, None)] * batch.num_rows
        luma: list[np.ndarray | None] = [None] * batch.num_rows
        refusals: dict[int, Rejected] = {}
        images, references = batch.column("image"), batch.column("reference")
        for row in still_in(batch):
            try:
                sizes[row], luma[row] = self._decode(images[row].as_py(), references[row].as_py())
            except Rejected as refusal:
                refusals[row] = refusal
        batch = refuse(batch, refusals)
        batch = batch.append_column("width", pa.array([width for width, _ in sizes], pa.int32()))
        batch = batch.append_column("height", pa.array([height for _, height in sizes], pa.int32()))
        widths = [None if picture is None else picture.shape[1] for picture in luma]
        batch = batch.append_column("luma_width", pa.array(widths, pa.int32()))
        pixels = [None if picture is None else picture.tobytes() for picture in luma]
        return batch.append_column("luma", pa.array(pixels, pa.large_binary()))

    def _decode(self, image: bytes, reference: bytes | None) -> tuple[tuple[int, int], np.ndarray]:
        if image == reference:
            raise Rejected(Reason.EDIT_UNCHANGED, "source and target are the same bytes")
        header, picture = decode_with_header(image, self._limits, MEASURE_SIDE_PX)
        if reference is not None:
            try:
                decode_image(reference, self._limits, MEASURE_SIDE_PX)
            except Rejected as refusal:
                raise Rejected(refusal.reason, f"reference: {refusal.detail}") from refusal
        return (header.width, header.height), np.asarray(picture.convert("L"))
