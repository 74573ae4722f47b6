"""Hidden states from a table that is being written: what is not there yet is waited for."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from mos.errors import UserError
from mos.feeding.progress import RankProgress, StreamProgress
from mos.feeding.schedule import Demand
from mos.states.packed import PackedStates
from mos.tables.lance import TableVersion, latest_version, read_column
from mos.tables.payloads import RowCache, StateTable

REMEDY = "remove it and start the stage again, which encodes its states anew"
"""What to do about a table between producers and trainer that has lost files."""
POLL_S = 0.05
"""Seconds between looks for a new version of the table."""
OPEN_TRIES = 20
"""Versions may be cleaned away while they are opened; then there is a newer one."""


@dataclass(frozen=True)
class _Snapshot:
    """One version of the table."""

    version: int
    table: StateTable
    rows: dict[str, int]
    """Row of every key."""


class StreamedStates:
    """States of a stage's contexts, as soon as producers have committed them.

    A new version is indexed as a whole, which takes time in proportion to its rows: few where consumed windows are
    dropped.

    Args:
        uri: the table between producers and trainer.
        contexts: of the stage, CONTEXT_TASKS.
        layers: hidden states of the tower to give, ascending.
        cache: where the first states are kept.
        timeout_s: how long to wait for a state.
    """

    def __init__(
        self, uri: str, contexts: pa.Table, layers: tuple[int, ...], cache: RowCache, *, timeout_s: float
    ) -> None:
        self.waited_s = 0.0
        """Seconds spent waiting so far."""
        self._uri = uri
        self._keys = contexts.column("context_key")
        self._layers = layers
        self._cache = cache
        self._timeout_s = timeout_s
        self._snapshot: _Snapshot | None = None
        self._counted_until = 0.0
        self._error: Exception | None = None
        self._report: _Reporter | None = None

    def extend(self, contexts: pa.Table) -> None:
        """Know more contexts from now on, CONTEXT_TASKS that begin with those known."""
        self._keys = contexts.column("context_key")

    def report_to(self, progress: StreamProgress, rank: int, demand: Demand) -> None:
        """Tell the producers, from now on, when this rank enters a window."""
        self._report = _Reporter(progress, rank, demand)

    def begin(self, step: int) -> None:
        """Announce that the states of a step are read next, and of no earlier one ever again."""
        if self._report is not None:
            self._report.reach(step, self.waited_s)

    def read(self, rows: Iterable[int]) -> list[PackedStates]:
        """States of contexts by their numbers, in the order given; not to be written to.

        Raises:
            UserError: the producers failed, or the states did not come in time.
            OSError: a disk or a store fails.
        """
        wanted = list(rows)
        found: dict[int, PackedStates] = {}
        for number in dict.fromkeys(wanted):
            cached = self._cache.get(("streamed", number))
            if cached is not None:
                found[number] = cached
        missing = [number for number in dict.fromkeys(wanted) if number not in found]
        if missing:
            found |= self._fetch(missing)
        return [found[number] for number in wanted]

    def _fetch(self, numbers: list[int]) -> dict[int, PackedStates]:
        keys = [str(self._keys[number]) for number in numbers]
        started = self._counted_until = time.monotonic()
        self._error = None
        while (states := self._try_read(keys, started)) is None:
            if not self._refresh():
                time.sleep(POLL_S)
        found = dict(zip(numbers, states, strict=True))
        for number, packed in found.items():
            if packed.nbytes <= self._cache.room:
                self._cache.put(("streamed", number), packed.clone())
        return found

    def _try_read(self, keys: list[str], started: float) -> list[PackedStates] | None:
        """The states, if the version known has all of them.

        Raises:
            OSError: they cannot be read, though no newer version has dropped them.
            ValueError: the same, found by Lance.
            UserError: enough of waiting.
        """
        if self._snapshot is None:
            return None
        lacking = sum(key not in self._snapshot.rows for key in keys)
        if not lacking:
            now = time.monotonic()
            self.waited_s += now - self._counted_until
            self._counted_until = now
            try:
                return self._snapshot.table.read([self._snapshot.rows[key] for key in keys])
            except (OSError, ValueError) as error:
                self._error = error
                if not self._refresh():
                    raise
                # Rows of an older window, dropped since: if needed again, they come again.
        self._give_up(time.monotonic() - started, lacking)
        return None

    def _give_up(self, waited_s: float, lacking: int) -> None:
        failure = None if self._report is None else self._report.progress.failure
        if failure is not None:
            raise UserError(failure)
        if waited_s > self._timeout_s:
            raise UserError(
                f"waited {waited_s:.0f} s for {lacking} states that did not come into {self._uri}: look at the "
                "producers, raise states.producers.max or cluster.num_cpus, or states.timeout_s"
            ) from self._error

    def _refresh(self) -> bool:
        """Look at the newest version; False where it is the one already known."""
        for attempt in range(OPEN_TRIES):
            try:
                latest = latest_version(self._uri)
                if self._snapshot is not None and latest.version == self._snapshot.version:
                    return False
                self._snapshot = self._open(latest)
                return True
            except (UserError, OSError, ValueError):
                if attempt == OPEN_TRIES - 1:
                    raise
                time.sleep(POLL_S)
        raise AssertionError("a last attempt returns or raises")

    def _open(self, version: TableVersion) -> _Snapshot:
        table = StateTable(version, RowCache(0), self._layers, REMEDY)
        table.payloads([])  # finds every row's place now, while the version is there
        rows = {key: row for row, key in enumerate(read_column(version, "context_key"))}
        return _Snapshot(version.version, table, rows)


class _Reporter:
    """Writes a rank's progress once a window."""

    def __init__(self, progress: StreamProgress, rank: int, demand: Demand) -> None:
        self.progress = progress
        self._rank = rank
        self._demand = demand
        self._window: int | None = None

    def reach(self, step: int, waited_s: float) -> None:
        window = self._demand.window_of(step)
        if window != self._window:
            try:
                self.progress.report(self._rank, RankProgress(step, waited_s))
            except OSError:  # a full disk: the next step tries again
                return
            self._window = window
