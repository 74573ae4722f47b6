"""Measured items -> uncommitted fragments of the samples table; only marks travel on."""

import json

import pyarrow as pa

from mos.curation.items import still_in
from mos.curation.manifest import marks_schema
from mos.tables.lance import write_rows
from mos.tables.schema import samples_schema


class WriteSamples:
    """Writes the bytes where the task runs, so that no image crosses to the driver.

    Reads   every column of `mos.tables.schema.samples_schema`, order, unit, pair, reason, detail
    Writes  the columns of `mos.curation.manifest.marks_schema`, one row an item; a repeated task leaves fragments that
            nobody commits, hence nobody sees
    """

    def __init__(self, uri: str, resolutions: tuple[int, ...]) -> None:
        self._uri = uri
        self._schema = samples_schema(resolutions)
        self._marks = marks_schema(resolutions)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One mark for each item, in the batch's order."""
        rows = still_in(batch)
        fragments: list[str | None] = [None] * batch.num_rows
        names: list[str | None] = [None] * batch.num_rows
        places: list[int | None] = [None] * batch.num_rows
        if rows:
            kept = batch.take(rows).select(self._schema.names).cast(self._schema)
            (fragment,) = write_rows(self._uri, kept)
            fragments[rows[0]] = fragment
            for place, row in enumerate(rows):
                names[row], places[row] = fragment_name(fragment), place
        batch = batch.append_column("fragment", pa.array(fragments, pa.string()))
        batch = batch.append_column("fragment_name", pa.array(names, pa.string()))
        batch = batch.append_column("place", pa.array(places, pa.int32()))
        return batch.select(self._marks.names).cast(self._marks)


def fragment_name(fragment: str) -> str:
    """The data file that tells one fragment from all others, before and after its commit."""
    return json.loads(fragment)["files"][0]["path"]
