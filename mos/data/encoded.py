"""Encoded rows on their way into a table: actors write fragments, one committer appends them, each key once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from mos.errors import UserError
from mos.schema import LATENTS, STATES
from mos.states.latents import LATENT_DTYPE
from mos.states.payload import FormatName
from mos.tables import TableVersion, commit_fragments, open_table, write_rows

ENCODED = pa.schema(
    [
        pa.field("fragment", pa.string()),  # FragmentMetadata as JSON; null where every row failed
        pa.field("keys", pa.list_(pa.string()), nullable=False),  # key of every row of the fragment, in order
        pa.field("failed_keys", pa.list_(pa.string()), nullable=False),  # tasks that gave no row
        pa.field("failures", pa.list_(pa.string()), nullable=False),  # and why, in the same order
    ]
)
"""What travels from an encoding actor to the driver: one row per fragment, already on disk."""


def states_schema(tower_id: str, num_states: int, dim: int, format_name: FormatName) -> pa.Schema:
    """STATES of one tower; `num_states` is m + 1."""
    return STATES.with_metadata(
        {"tower": tower_id, "num_layers": str(num_states), "dim": str(dim), "format": format_name}
    )


def latents_schema(codec_id: str, channels: int, stride: int) -> pa.Schema:
    """LATENTS of one codec."""
    return LATENTS.with_metadata(
        {"codec": codec_id, "channels": str(channels), "stride": str(stride), "dtype": LATENT_DTYPE}
    )


def write_encoded(uri: str, rows: pa.Table, failures: dict[str, str]) -> pa.Table:
    """Write rows, whose first column is their key, as one fragment of a table; returns the ENCODED row.

    Safe to repeat: a fragment that is never committed is invisible to every reader.
    """
    fragments = write_rows(uri, rows) if rows.num_rows else []
    assert len(fragments) <= 1, "a batch of rows is one fragment"
    row = {
        "fragment": fragments[0] if fragments else None,
        "keys": rows.column(0).to_pylist(),
        "failed_keys": list(failures),
        "failures": list(failures.values()),
    }
    return pa.Table.from_pylist([row], schema=ENCODED)


@dataclass
class Committer:
    """Appends fragments to one table, every few of them in a commit, and sees to it that no key is written twice."""

    table: TableVersion
    """The table as of its last commit."""
    fragments_per_commit: int
    """Fragments collected before they are committed."""
    failures: dict[str, str] = field(default_factory=dict)
    """Key -> reason of every task that gave no row."""
    num_committed: int = 0
    """Rows this run has appended."""

    def __post_init__(self) -> None:
        self._open: set[str] = set()
        self._fragments: list[str] = []
        self._num_waiting = 0

    @property
    def num_encoded(self) -> int:
        """Rows that have come, committed or not."""
        return self.num_committed + self._num_waiting

    def expect(self, keys: Iterable[str]) -> None:
        """Name the keys that will come; none of them is in the table yet."""
        self._open |= set(keys)

    def add(self, rows: Sequence[dict]) -> None:
        """Take ENCODED rows; commits when enough have come.

        Raises:
            RuntimeError: a key came twice, or was never asked for.
            UserError: another process appended to the table meanwhile.
        """
        for row in rows:
            for key in (*row["keys"], *row["failed_keys"]):
                if key not in self._open:
                    raise RuntimeError(f"key {key} came twice or was never asked for: nothing of its fragment is kept")
                self._open.remove(key)
            self.failures |= dict(zip(row["failed_keys"], row["failures"], strict=True))
            if row["fragment"] is not None:
                self._fragments.append(row["fragment"])
                self._num_waiting += len(row["keys"])
        if len(self._fragments) >= self.fragments_per_commit:
            self.commit()

    def finish(self) -> TableVersion:
        """Commit what is left; every expected key has come by now.

        Raises:
            RuntimeError: a key never came.
        """
        self.commit()
        if self._open:
            raise RuntimeError(f"{len(self._open)} rows for {self.table.uri} were never encoded")
        return self.table

    def commit(self) -> None:
        """Append the fragments collected so far."""
        if open_table(self.table.uri).version != self.table.version:
            raise UserError(
                f"table {self.table.uri} changed while this run was writing it: let the other encode run finish, then "
                "start this one again (it keeps what is there)"
            )
        if self._fragments:
            self.table = commit_fragments(self.table.uri, self._fragments, self._num_waiting)
            self.num_committed += self._num_waiting
            self._fragments, self._num_waiting = [], 0
