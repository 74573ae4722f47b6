"""A stage's view of the samples table: a filter over score columns, and what it would train on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mos.errors import UserError

if TYPE_CHECKING:
    import lance

DIGITS = 8
"""Hex digits of a sample's id that decide on which side it is."""


@dataclass(frozen=True)
class View:
    """Filter of the samples table: the rows a stage trains on."""

    resolution: int
    """Only rows with a bucket of this resolution."""
    filter: str = ""
    """Lance SQL over the columns of `mos.tables.schema.samples_schema`; empty: every row."""
    tasks: Sequence[str] = ("generate",)
    sources: Sequence[str] = ()
    """Source names; empty: every source."""

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "View":
        """A view whose `asdict` went through JSON."""
        return cls(**{**plain, "tasks": tuple(plain["tasks"]), "sources": tuple(plain["sources"])})

    def predicate(self) -> str:
        """The whole view as one SQL expression."""
        clauses = [f"bucket_{self.resolution} IS NOT NULL", _is_one_of("task", self.tasks)]
        if self.sources:
            clauses.append(_is_one_of("source", self.sources))
        if self.filter.strip():
            clauses.append(f"({self.filter})")
        return " AND ".join(clauses)


@dataclass(frozen=True)
class ViewCounts:
    """Rows of a view, counted."""

    rows: int
    buckets: dict[str, int]
    """Rows by bucket, `"<height>x<width>"`."""
    sources: dict[str, int]
    """Rows by source."""


def split(view: View, held_out: float) -> tuple[View, View]:
    """A view, cut in two by sample id: for training, and held out.

    Ids are hashes of what a sample holds, so the share is the same in every bucket and stays where samples are added.

    Args:
        view: the whole.
        held_out: share to hold out, in (0, 1).
    """
    bound = f"'{round(held_out * 16**DIGITS):0{DIGITS}x}'"
    before = f"({view.filter}) AND " if view.filter.strip() else ""
    training, rest = (f"{before}sample_id {side} {bound}" for side in (">=", "<"))
    return replace(view, filter=training), replace(view, filter=rest)


def check_filter(samples: "lance.LanceDataset", view: View) -> None:
    """Raise `UserError` where the table has no bucket of the view's resolution, or the filter is no expression over its
    columns; no row is read.
    """
    if f"bucket_{view.resolution}" not in samples.schema.names:
        have = sorted(int(name.removeprefix("bucket_")) for name in samples.schema.names if name.startswith("bucket_"))
        raise UserError(
            f"resolution {view.resolution} was not curated (the table has {have}): add it to curate.resolutions"
        )
    try:
        samples.scanner(columns=["source"], filter=view.predicate()).explain_plan()
    except (ValueError, OSError) as error:
        raise UserError(f"filter {view.filter!r} is refused: {str(error).splitlines()[0]}") from error


def count_view(samples: "lance.LanceDataset", view: View) -> ViewCounts:
    """Rows, buckets and sources of a view, counted a batch at a time.

    Raises:
        UserError: the view does not fit the table, see `check_filter`.
    """
    check_filter(samples, view)
    buckets: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    columns = [f"bucket_{view.resolution}", "source"]
    for batch in samples.scanner(columns=columns, filter=view.predicate(), scan_in_order=True).to_batches():
        for found, column in zip((buckets, sources), columns, strict=True):
            counted = batch.column(column).value_counts()
            found.update(dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)))
    return ViewCounts(buckets.total(), dict(buckets.most_common()), dict(sources.most_common()))


def _is_one_of(column: str, values: Sequence[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"
