"""Columns of losses beside the others of a samples table.

They are a new file of 4 bytes a row and column for each fragment, and one commit shows them: no image is read or
written, row addresses stay, and every pinned version stays as it is.
"""

from collections.abc import Mapping

import lance
import numpy as np
import pyarrow as pa
from lance.commit import CommitConflictError

from mos.tables.lance import TableMovedError, TableVersion, open_table


def write_columns(base: TableVersion, columns: Mapping[str, pa.Table]) -> TableVersion:
    """The rows of a version with columns beside them, as a version of its own; one commit.

    Where the newest version has other rows than `base`, those of a newer curation, it stays the newest.

    Args:
        base: without these columns.
        columns: name -> `address` (int64, Lance's `_rowaddr`) and `loss` (float32) of each row that has one; the
            others are null.

    Raises:
        TableMovedError: somebody else changed the table meanwhile; nothing is committed.
    """
    dataset, newest = base.open(), open_table(base.uri)
    newer_rows = not _same_rows(dataset, newest)
    if newer_rows:
        dataset.restore()  # a commit that adds columns keeps the rows of the version before it
    values = {name: _sorted(table) for name, table in columns.items()}
    fragments, schema = [], None
    for fragment in dataset.get_fragments():

        def read(rows: pa.RecordBatch) -> pa.RecordBatch:
            addresses = rows.column(0).to_numpy()
            return pa.RecordBatch.from_pydict({name: _take(*known, addresses) for name, known in values.items()})

        metadata, schema = fragment.merge_columns(read, columns=["_rowaddr"])
        fragments.append(metadata)
    try:
        merged = lance.LanceOperation.Merge(fragments, schema)
        before = dataset.version if newer_rows else newest.version
        after = lance.LanceDataset.commit(base.uri, merged, read_version=before, max_retries=0)
        if newer_rows:
            newest.restore()
    except CommitConflictError as error:
        raise TableMovedError(f"table {base.uri} was changed by another run since version {newest.version}") from error
    return TableVersion(base.uri, after.version, base.rows)


def _sorted(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    rows = table.sort_by("address")
    return rows["address"].to_numpy(), rows["loss"].to_numpy()


def _take(known: np.ndarray, losses: np.ndarray, addresses: np.ndarray) -> pa.Array:
    """Losses of rows, null where there is none."""
    places = np.searchsorted(known, addresses).clip(max=max(0, len(known) - 1))
    lacking = known[places] != addresses if len(known) else np.ones(len(addresses), dtype=bool)
    values = losses[places] if len(known) else np.zeros(len(addresses))
    return pa.array(values, pa.float32(), mask=lacking | ~np.isfinite(values))


def _same_rows(one: lance.LanceDataset, other: lance.LanceDataset) -> bool:
    """True if two versions hold the same rows, whatever their columns: their fragments begin with the same files."""

    def rows(dataset: lance.LanceDataset) -> list[tuple]:
        parts = [fragment.metadata for fragment in dataset.get_fragments()]
        return [(part.id, part.files[0].path, part.num_deletions) for part in parts]

    return rows(one) == rows(other)
