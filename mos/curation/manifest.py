"""Manifest of a curation: a light row per item with its id, its verdict so far, and where its full row stands."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mos.curation.duplicates import Copy, Mark, find_copies
from mos.images.reasons import Notice
from mos.tables.schema import REJECTS

_REPEATED = ("source", "shard", "fragment_name", "reason")


def marks_schema(resolutions: Sequence[int]) -> pa.Schema:
    """Columns of a mark; from `sample_id` on they are null for a refused item."""
    fields = [pa.field(name, pa.string()) for name in ("source", "shard", "key", "reason", "detail")]
    fields += [pa.field("unit", pa.int32()), pa.field("order", pa.int64())]
    fields += [pa.field(name, pa.string()) for name in ("sample_id", "pair", "phash")]
    fields += [pa.field(f"bucket_{side}", pa.string()) for side in resolutions]
    fields += [
        pa.field("fragment", pa.string()),  # FragmentMetadata as JSON, on the fragment's first row only
        pa.field("fragment_name", pa.string()),  # its data file
        pa.field("place", pa.int32()),  # row inside the fragment
    ]
    return pa.schema(fields)


def compact(marks: pa.Table) -> pa.Table:
    """The same marks with the columns that repeat themselves dictionary-encoded: about 150 bytes a row."""
    for name in _REPEATED:
        index = marks.schema.get_field_index(name)
        if index >= 0:
            marks = marks.set_column(index, name, marks.column(index).dictionary_encode())
    return marks


def join(parts: Sequence[pa.Table]) -> pa.Table:
    """All marks in the order of the sources, whatever order they were made in."""
    return pa.concat_tables(parts).unify_dictionaries().sort_by("order")


def split_notices(marks: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """The marks of items, and how often each notice was given."""
    is_notice = is_notice_row(marks)
    counts = Counter[str]()
    for row in marks.filter(is_notice).select(["reason", "detail"]).to_pylist():
        counts[row["reason"]] += int(row["detail"])
    return marks.filter(pc.invert(is_notice)), dict(counts.most_common())


def is_notice_row(rows: pa.Table) -> pa.ChunkedArray:
    """Mask of rows that count something that is no item."""
    notices = pa.array([str(notice) for notice in Notice], pa.string())
    return pc.is_in(rows.column("reason").cast(pa.string()), value_set=notices)


def drop_copies(marks: pa.Table, kept: Sequence[Mark], near_bits: int) -> pa.Table:
    """Refuse every mark that repeats a kept sample or an earlier mark; the marks must be in order."""
    rows = [index for index, reason in enumerate(marks.column("reason").to_pylist()) if reason is None]
    deciding = marks.select(["sample_id", "pair", "phash", "shard", "key"])
    candidates = deciding.take(pa.array(rows, pa.int64())).to_pylist()
    copies = find_copies(kept, [mark_of(row) for row in candidates], near_bits)
    return _refuse(marks, {rows[index]: copy for index, copy in copies.items()})


def mark_of(row: dict[str, str]) -> Mark:
    """The part of a row that decides about duplicates."""
    return Mark(row["sample_id"], row["pair"], int(row["phash"], 16), f"{row['key']} of {row['shard']}")


def rejects_of(marks: pa.Table) -> pa.Table:
    """The refused marks as rows of the rejects table."""
    refused = marks.filter(marks.column("reason").is_valid())
    return refused.select(REJECTS.names).cast(REJECTS)


def count_reasons(rejects: pa.Table) -> dict[str, int]:
    """Refused items by reason, the most frequent first."""
    return dict(Counter(rejects.column("reason").to_pylist()).most_common())


def _refuse(marks: pa.Table, copies: dict[int, Copy]) -> pa.Table:
    reasons, details = marks.column("reason").to_pylist(), marks.column("detail").to_pylist()
    for row, copy in copies.items():
        reasons[row], details[row] = str(copy.reason), copy.detail
    for name, values in (
        ("reason", pc.dictionary_encode(pa.array(reasons, pa.string()))),
        ("detail", pa.array(details, pa.string())),
    ):
        marks = marks.set_column(marks.schema.get_field_index(name), name, values)
    return marks
