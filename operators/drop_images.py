"""Measured items -> the same without images: what a dry run needs."""

import pyarrow as pa


class DropImages:
    """Keeps every score and the caption, so that a stage's filter can be tried before anything is written.

    Reads   any columns
    Writes  all of them but image, reference and meta
    """

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch without bytes."""
        return batch.drop_columns(["image", "reference", "meta"])
