"""The table between the producers and the trainer of a streaming stage, as the side that commits sees it."""

from collections.abc import Iterable
from datetime import timedelta

from mos.tables.blob_reader import index_blobs
from mos.tables.committer import Committer
from mos.tables.lance import TableVersion, delete_rows, latest_version, open_table, read_column


class StateQueue:
    """Commits what producers wrote and drops what was consumed; one process at a time does either.

    An OSError loses nothing: call `finish_interrupted` until it passes, before anything else.

    Args:
        uri: a states table; with `drop`, of this stage alone.
        drop: whether rows will be dropped.
    """

    def __init__(self, uri: str, drop: bool) -> None:
        self.uri = uri
        self.num_recovered = 0
        """Rows that an earlier run wrote and did not commit."""
        self._drop = drop
        self._committer = self._new_committer(latest_version(uri))
        self.num_recovered = self._committer.recover()
        self._expected: set[str] = set()
        self._dropping: list[str] = []

    def sizes(self) -> dict[str, float]:
        """Key -> payload bytes of every row."""
        table = latest_version(self.uri)
        sizes = index_blobs(table.open(), "payload", ()).size
        return dict(zip(read_column(table, "context_key"), sizes.tolist(), strict=True))

    def expect(self, keys: Iterable[str]) -> None:
        """Name keys that a producer is about to encode; the table has none of them."""
        new = set(keys)
        self._expected |= new
        self._committer.expect(new)

    def add(self, rows: list[dict]) -> None:
        """Commit what producers have written, ENCODED rows."""
        self._committer.add(rows)
        for row in rows:
            self._expected.difference_update(row["keys"], row["failed_keys"])
        self.finish_interrupted()

    def drop(self, keys: list[str]) -> None:
        """Remove rows and free their bytes, where a fragment has no others left."""
        assert self._drop, "a shared table keeps its rows"
        self._dropping += keys
        self.finish_interrupted()

    def finish_interrupted(self) -> None:
        """Finish what an OSError interrupted; nothing to do otherwise."""
        self._committer.commit()
        if self._dropping:
            self._drop_rows(self._dropping)
            self._dropping = []

    def _drop_rows(self, keys: list[str]) -> None:
        dataset = open_table(self.uri)
        delete_rows(dataset, "context_key", keys)
        # Fragments that nobody has committed yet are younger than a week and stay.
        open_table(self.uri).cleanup_old_versions(older_than=timedelta(0), error_if_tagged_old_versions=False)
        # A committer takes keys that it has seen in the table for encoded; these may come again.
        self._committer = self._new_committer(latest_version(self.uri))
        self._committer.expect(self._expected)

    @staticmethod
    def _new_committer(table: TableVersion) -> Committer:
        return Committer(table, fragments_per_commit=2**31)
