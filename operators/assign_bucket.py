"""Image size -> the training shape at each resolution."""

from collections.abc import Mapping

import pyarrow as pa

from mos.curation.items import refuse, still_in
from mos.images.buckets import Bucket, assign
from mos.images.reasons import Reason, Rejected


class AssignBucket:
    """Picks the bucket of every item at every resolution; refuses what fits none.

    Reads   width, height, reason
    Writes  bucket_<resolution>: string "<height>x<width>", null where the image is too small; reason, detail
    """

    def __init__(self, buckets: Mapping[int, tuple[Bucket, ...]], max_upscale: float) -> None:
        self._buckets = buckets
        self._max_upscale = max_upscale

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with its buckets."""
        widths, heights = batch.column("width").to_pylist(), batch.column("height").to_pylist()
        found: dict[int, list[str | None]] = {side: [None] * batch.num_rows for side in self._buckets}
        refusals: dict[int, Rejected] = {}
        for row in still_in(batch):
            for side, buckets in self._buckets.items():
                bucket = assign(widths[row], heights[row], buckets, self._max_upscale)
                found[side][row] = None if bucket is None else str(bucket)
            if not any(found[side][row] for side in self._buckets):
                refusals[row] = Rejected(
                    Reason.BUCKET_NONE,
                    f"{widths[row]}x{heights[row]} px fills no bucket of {list(self._buckets)}",
                )
        for side, names in found.items():
            batch = batch.append_column(f"bucket_{side}", pa.array(names, pa.string()))
        return refuse(batch, refusals)
