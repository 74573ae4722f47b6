"""Encoding tasks of a samples table: its distinct contexts and latents, as light rows that point back into it.

A task names its image by row number and column of a pinned samples version; the bytes never pass the driver.
`mos.tables.encode_plan` makes them.
"""

from collections.abc import Iterator

import pyarrow as pa

NO_IMAGE = -1
"""Row number of a context without an image."""

CONTEXT_TASKS = pa.schema(
    [
        pa.field("context_key", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # samples row whose `reference` the tower sees, or NO_IMAGE
        pa.field("version", pa.int64(), nullable=False),  # of the samples table that has the row
    ]
)

LATENT_TASKS = pa.schema(
    [
        pa.field("latent_key", pa.string(), nullable=False),
        pa.field("bucket", pa.string(), nullable=False),  # "<height>x<width>" px
        pa.field("column", pa.string(), nullable=False),  # `image` or `reference`
        pa.field("row", pa.int64(), nullable=False),  # samples row that holds the image
    ]
)


def num_pieces(num_rows: int, rows_per_fragment: int, num_workers: int) -> int:
    """Into how many fragments to cut tasks: none above its bound, one for each actor while there are rows enough."""
    return max(-(-num_rows // rows_per_fragment), min(num_workers, num_rows))


def cut_pieces(num_rows: int, num: int) -> Iterator[range]:
    """So many runs of rows, in order, whose lengths differ by one at most."""
    size, longer = divmod(num_rows, num)
    start = 0
    for piece in range(num):
        stop = start + size + (piece < longer)
        yield range(start, stop)
        start = stop
