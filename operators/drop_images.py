"""Measured items -> the same without images: what a dry run needs."""

import pyarrow as pa

from mos.curation.manifest import light_schema


class DropImages:
    """Keeps every score and the caption, so that a stage's filter can be tried before anything is written.

    Reads   every column of `mos.curation.manifest.light_schema`
    Writes  these
    """

    def __init__(self, resolutions: tuple[int, ...]) -> None:
        self._schema = light_schema(resolutions)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch without bytes."""
        return batch.select(self._schema.names).cast(self._schema)
