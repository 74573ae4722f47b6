"""Progress lines and closing tables of a curation."""

import time
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from mos.curation.manifest import is_notice_row
from mos.tables.views import ViewCounts

LINE_EVERY_S = 2.0


class Progress:
    """Counts rows as they come back and prints a line every two seconds."""

    def __init__(self, num_units: int) -> None:
        self._num_units = num_units
        self._units: set[int] = set()
        self._counts = Counter[str]()
        self._started_at = self._printed_at = time.monotonic()

    def advance(self, batch: pa.Table) -> None:
        """Count a batch with the columns `unit` and `reason`."""
        self._units.update(batch.column("unit").unique().to_pylist())
        batch = batch.filter(pc.invert(is_notice_row(batch)))
        self._counts["read"] += batch.num_rows
        self._counts["rejected"] += batch.num_rows - batch.column("reason").null_count
        if time.monotonic() - self._printed_at >= LINE_EVERY_S:
            self._print()

    def close(self) -> None:
        """Print the last line."""
        self._print()

    def _print(self) -> None:
        self._printed_at = time.monotonic()
        read, rejected = self._counts["read"], self._counts["rejected"]
        rate = read / max(1e-9, self._printed_at - self._started_at)
        print(
            f"curate: {len(self._units)}/{self._num_units} units, {read} read, {read - rejected} kept, "
            f"{rejected} rejected, {rate:.0f} rows/s",
            flush=True,
        )


def print_result(
    read: int,
    kept: int,
    rejected: Mapping[str, int],
    buckets: Mapping[str, Mapping[str, int]],
    notices: Mapping[str, int],
) -> None:
    """The ledger `read == kept + rejected` by reason, what was counted apart, and the fullest buckets."""
    table = Table("items", "count", title="Curated")
    table.columns[1].justify = "right"
    table.add_row("read", str(read), end_section=True)
    for reason, count in rejected.items():
        table.add_row(f"rejected: {reason}", str(count))
    table.add_section()
    table.add_row("rejected, all reasons", str(sum(rejected.values())))
    table.add_row("kept", str(kept), end_section=bool(notices))
    for notice, count in notices.items():
        table.add_row(f"counted apart: {notice}", str(count))
    console = Console()
    console.print(table)
    for resolution, counts in buckets.items():
        console.print(f"buckets of {resolution} px: {_shares(counts)}", highlight=False)


def print_views(views: Mapping[str, ViewCounts]) -> None:
    """Print the counts of each stage's view."""
    table = Table("stage", "rows", "buckets", "sources", title="Views")
    table.columns[1].justify = "right"
    for stage, counts in views.items():
        table.add_row(stage, str(counts.rows), _shares(counts.buckets), _shares(counts.sources))
    Console().print(table)


def _shares(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
