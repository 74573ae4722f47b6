"""Removal from a table: said first, then done. Nothing goes that a view, a record or a run at work may need.

A row stays while a view of any registered run can ask for it, a version while any record names it, a table while
anybody uses it. What changed within the margin stays too: the run that wrote it may not have its record yet. Files
that no commit names go with Lance's own clean-up, a week after they were written.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import lance

from mos.tables.inventory import TableSummary
from mos.tables.lance import delete_rows, latest_version, open_table, read_column
from mos.tables.runs import RegisteredRun, needed_keys

MARGIN_S = 7 * 24 * 3600
"""How long a table must have rested: the margin Lance gives to files that no commit names."""


@dataclass(frozen=True)
class Removal:
    """Rows and files that would go from one table."""

    table: TableSummary
    whole: bool
    """The table itself."""
    keys: tuple[str, ...]
    """Rows, where the table stays."""
    versions: tuple[int, ...]
    """Versions, where the table stays; of those that hold the rows, only these free bytes."""
    reason: str
    """Why, or why nothing."""

    @property
    def is_empty(self) -> bool:
        """True if nothing would go."""
        return not (self.whole or self.keys or self.versions)

    def describe(self) -> str:
        """One line."""
        what = [f"{len(self.keys)} of {self.table.rows} rows"] if self.keys else []
        what += [f"{len(self.versions)} versions"] if self.versions else []
        if self.whole:
            what = [f"the whole table ({self.table.rows} rows, {self.table.num_bytes} bytes)"]
        return f"{self.table.uri}: {' and '.join(what) or 'nothing'} ({self.reason})"


def plan_removal(table: TableSummary, users: Sequence[RegisteredRun], margin_s: float = MARGIN_S) -> Removal:
    """The part of a table that may go."""
    if time.time() - table.changed_at < margin_s:
        return Removal(table, False, (), (), f"changed less than {margin_s / 3600:.0f} h ago: a run may be at work")
    unreadable = [user for user in users if user.encodings is None]
    if unreadable:
        roots = ", ".join(user.root for user in unreadable)
        files = ", ".join(f"{table.uri.rsplit('/', 2)[0]}/{user.file}" for user in unreadable)
        remedy = f"where these runs are gone for good, delete {files}"
        return Removal(table, False, (), (), f"the records in {roots} cannot be read from here: {remedy}")
    pinned = {version for user in users for version in user.versions(table.uri)}
    if not pinned:
        return Removal(table, True, (), (), "no record of a registered run names it")
    needed = needed_keys(users, table.uri, table.kind)
    latest = latest_version(table.uri)
    present = read_column(latest, latest.open().schema.names[0])
    keys = tuple(key for key in present if key not in needed)
    versions = tuple(version for version in table.versions[:-1] if version not in pinned)
    return Removal(table, False, keys, versions, "no view asks for the rows, no record names the versions")


def remove(removal: Removal) -> None:
    """Do what was planned; a run that reads a version which a record names is not disturbed."""
    uri = removal.table.uri
    if removal.whole:
        lance.LanceDataset.drop(uri)
        return
    dataset = open_table(uri)
    delete_rows(dataset, dataset.schema.names[0], removal.keys)
    if removal.versions:
        dataset.cleanup_old_versions(versions=list(removal.versions), error_if_tagged_old_versions=False)
    remove_orphans(uri)


def remove_orphans(uri: str) -> None:
    """Delete files that no version names and that are older than a week; younger ones may be about to be committed."""
    open_table(uri).cleanup_old_versions(older_than=timedelta(days=36_500), error_if_tagged_old_versions=False)


def compact(uri: str, rows_per_fragment: int) -> tuple[int, int]:
    """Merge small fragments and leave deleted rows behind; returns the number of fragments before and after.

    A version that a record names keeps its files; the newest version's rows keep their order.
    """
    before = len(open_table(uri).get_fragments())
    open_table(uri).optimize.compact_files(
        target_rows_per_fragment=rows_per_fragment, materialize_deletions_threshold=0.0
    )
    return before, len(open_table(uri).get_fragments())
