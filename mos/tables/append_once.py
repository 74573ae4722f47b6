"""Append rows so that each key is in a table once, whoever else is appending: the one commit path of encoded rows.

A writer begins at a version that lacks its keys. It commits on top of the version it knows or, if somebody else was
faster, learns which keys the newer versions brought, leaves those rows out and tries again. Somebody got further at
every refusal, so the tries end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from mos.errors import UserError
from mos.tables.lance import (
    TableMovedError,
    TableVersion,
    append_fragments,
    latest_version,
    open_table,
    read_written,
    write_rows,
)


@dataclass(frozen=True)
class WrittenFragment:
    """A fragment on disk that no version of the table has yet."""

    fragment: str
    """FragmentMetadata as JSON."""
    keys: tuple[str, ...]
    """Key of every row, in order."""
    packs: Mapping[str, int] = field(default_factory=dict)
    """Size of every pack file when it was written (`mos.tables.lance.pack_sizes`); empty where nobody asks."""


class KeyedAppender:
    """Appends to one table; remembers which keys others have brought since it began."""

    def __init__(self, table: TableVersion) -> None:
        self.table = table
        """The newest version this appender knows: it holds every key that was handed to `append`."""
        self._brought: set[str] = set()

    def append(self, written: Sequence[WrittenFragment]) -> int:
        """Append the rows whose keys nobody else has brought; returns their number.

        Args:
            written: fragments whose keys were neither in the first version nor in an earlier call, each key in one.

        Raises:
            RuntimeError: a fragment's file is gone; nothing is committed.
        """
        rest: Sequence[WrittenFragment] = written
        while True:
            self._catch_up()
            rest = [part for one in rest if (part := without(self.table.uri, one, self._brought)) is not None]
            num_rows = sum(len(one.keys) for one in rest)
            try:
                self.table = append_fragments(self.table, [one.fragment for one in rest], num_rows)
            except TableMovedError:
                continue
            return num_rows

    def _catch_up(self) -> None:
        latest = latest_version(self.table.uri)
        if latest.version != self.table.version:
            self._brought |= keys_since(self.table, latest)
            self.table = latest


def keys_since(earlier: TableVersion, later: TableVersion) -> set[str]:
    """Keys, the first column, of every fragment that `later` has and `earlier` has not."""
    known = _data_files(earlier)
    dataset = later.open()
    fragments = [part for part in dataset.get_fragments() if part.metadata.files[0].path not in known]
    if not fragments:
        return set()
    key = dataset.schema.names[0]
    return set(dataset.scanner(columns=[key], fragments=fragments).to_table().column(0).to_pylist())


def without(uri: str, written: WrittenFragment, taken: set[str]) -> WrittenFragment | None:
    """The fragment without the rows of taken keys, rewritten if need be; None where nothing is left."""
    kept = [index for index, key in enumerate(written.keys) if key not in taken]
    if len(kept) == len(written.keys):
        return written
    if not kept:
        return None
    rows = read_written(uri, written.fragment).take(pa.array(kept, pa.int64()))
    (fragment,) = write_rows(uri, rows)
    return WrittenFragment(fragment, tuple(written.keys[index] for index in kept))


def _data_files(table: TableVersion) -> set[str]:
    """First data file of every fragment; none where the version was cleaned away, so that all keys are read again."""
    try:
        dataset = open_table(table.uri, table.version)
    except UserError:
        return set()
    return {fragment.metadata.files[0].path for fragment in dataset.get_fragments()}
