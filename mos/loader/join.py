"""How an index is built: the view, with keys, is joined with the rows of states and latents, in bounded memory.

A view's rows pass once, in batches; what is joined and put in order again stands in a database
(`mos.tables.workspace`), and the index is written as its rows come out.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mos.errors import UserError
from mos.loader.cells import sort_into_cells
from mos.loader.columns import ColumnWriter, map_column, new_column
from mos.loader.index import NO_ROW, SAMPLE, EncodedTables, SampleIndex
from mos.states.keys import context_key
from mos.tables.key_columns import context_keys, from_hex, key_columns, key_columns_at, latent_keys
from mos.tables.schema import TASK_EDIT
from mos.tables.views import View, check_filter
from mos.tables.workspace import BATCH_ROWS, Columns, fill, fill_keys, key_fields, number_of, same_key, workspace

VIEW_ROWS = pa.schema(
    [
        pa.field("place", pa.int64()),  # of the sample in its view
        pa.field("group", pa.int16()),  # as `_Numbered` has it
        pa.field("source", pa.int16()),
        pa.field("address", pa.int64()),
        *key_fields("context"),
        *key_fields("null_context"),  # null where it is the one without an image
        *key_fields("latent"),
        *key_fields("reference"),  # null where there is none
    ]
)
"""What is joined."""


def build_index(tables: EncodedTables, view: View, folder: Path, contexts: pa.Table | None = None) -> SampleIndex:
    """Join a view of the samples with its encodings; samples that have none are left out.

    Args:
        tables: what the stage trains on.
        view: its samples.
        folder: of the index; one that is there is replaced.
        contexts: for states that no table holds yet, the contexts (`mos.feeding.contexts`) that `state` and
            `null_state` then number.

    Raises:
        UserError: the view's resolution or filter does not fit the samples table, or nothing is left.
    """
    check_filter(tables.samples.open(), view)
    groups, sources = _Numbered(), _Numbered()
    with workspace() as database, _replaced(folder) as partial_folder:
        fill(database, "view_rows", VIEW_ROWS, _view_rows(tables, view, groups, sources))
        fill_keys(database, "states", tables.states if contexts is None else contexts)
        fill_keys(database, "latents", tables.latents)
        in_view = number_of(database, "SELECT count(*) FROM view_rows") or 0
        null_row = _null_row(database)
        kept = _write(partial_folder, _joined(database, null_row), {"group": groups.ranks(), "source": sources.ranks()})
        if not kept:
            raise UserError(
                f"the view {view.predicate()!r} has {in_view} samples in {tables.samples.uri}, of which 0 are encoded: "
                "loosen the filter, add larger images, or run pipelines/encode.py"
            )
        _write_cells(partial_folder)
        names = {
            "groups": groups.names(),
            "sources": sources.names(),
            "num_left_out": in_view - kept,
            "num_without_states": in_view - _num_told(database, null_row) if kept < in_view else 0,
        }
        (partial_folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    return SampleIndex.load(folder)


class _Numbered:
    """Distinct names, numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, names: pa.StringArray) -> NDArray[np.int16]:
        """The number of each."""
        found = names.dictionary_encode()
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in found.dictionary.to_pylist()]
        return np.array(numbers, np.int16)[found.indices.to_numpy()]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._numbers)

    def ranks(self) -> NDArray[np.int16]:
        """Place of each number's name among all, sorted."""
        ranks = np.empty(len(self._numbers), np.int16)
        ranks[[self._numbers[name] for name in self.names()]] = np.arange(len(ranks))
        return ranks


def _view_rows(tables: EncodedTables, view: View, groups: _Numbered, sources: _Numbered) -> Iterator[Columns]:
    """VIEW_ROWS, in the order of the table."""
    columns = ["task", "source", "caption", "image_hash", "reference_hash", f"bucket_{view.resolution}"]
    scanner = tables.samples.open().scanner(
        columns=columns, filter=view.predicate(), with_row_address=True, batch_size=BATCH_ROWS, scan_in_order=True
    )
    first = 0
    for batch in scanner.to_batches():
        task, source, caption, image, reference, bucket, address = batch.columns
        shown = pc.and_(pc.equal(task, TASK_EDIT), pc.is_valid(reference))
        reference = pc.if_else(shown, reference, None)
        seen = reference if tables.sees_images else pa.nulls(len(batch), pa.string())
        rows = pc.indices_nonzero(pc.is_valid(seen)), pc.indices_nonzero(shown)
        empty = pa.repeat("", len(rows[0]))
        yield {
            "place": np.arange(first, first + len(batch)),
            "group": groups.of(pc.binary_join_element_wise(task, bucket, " ")),
            "source": sources.of(source),
            "address": address.cast(pa.int64()),
            **key_columns("context", context_keys(caption, seen)),
            **key_columns_at("null_context", rows[0], context_keys(empty, seen.take(rows[0])), len(batch)),
            **key_columns("latent", latent_keys(image, tables.codec_id, bucket)),
            **key_columns_at(
                "reference",
                rows[1],
                latent_keys(reference.take(rows[1]), tables.codec_id, bucket.take(rows[1])),
                len(batch),
            ),
        }
        first += len(batch)


def _null_row(database: duckdb.DuckDBPyConnection) -> str:
    """Row of the null context without an image among the states, in SQL; NULL where there is none."""
    words = key_columns("k", from_hex(pa.array([context_key("")])))
    chosen = " AND ".join(f"{name} = {value[0]}" for name, value in words.items())
    row = number_of(database, f"SELECT min(row) FROM states WHERE {chosen}")
    return "NULL" if row is None else str(row)


def _has_null(null_row: str) -> str:
    """Condition that a view's row `v` has a null context among the states, where it is `n` if it has an image."""
    return f"(v.null_context0 IS NULL AND {null_row} IS NOT NULL OR n.row IS NOT NULL)"


def _num_told(database: duckdb.DuckDBPyConnection, null_row: str) -> int:
    """Samples of the view whose context and null context are among the states; `null_rows` is there."""
    return (
        number_of(
            database,
            f"""
        SELECT count(DISTINCT v.place) FROM view_rows v
            JOIN states s ON {same_key("v.context", "s.k")}
            LEFT JOIN null_rows n ON v.place = n.place
        WHERE {_has_null(null_row)}
        """,
        )
        or 0
    )


def _joined(database: duckdb.DuckDBPyConnection, null_row: str) -> Iterator[pa.RecordBatch]:
    """Rows of the index in the order of the view, numbered by `place`; a key that a table has twice gives its row
    several times, the first of the table first.
    """
    for rows, keys, table in (("null_rows", "null_context", "states"), ("reference_rows", "reference", "latents")):
        database.execute(
            f"CREATE TABLE {rows} AS SELECT place, min(row) AS row FROM view_rows v JOIN {table} t ON "
            f"{same_key(f'v.{keys}', 't.k')} WHERE v.{keys}0 IS NOT NULL GROUP BY place"
        )
    found = database.sql(
        f"""
        SELECT v.place, v."group", v.source, s.row AS state,
            CASE WHEN v.null_context0 IS NULL THEN {null_row} ELSE n.row END AS null_state,
            l.row AS latent, coalesce(r.row, {NO_ROW}) AS reference, v.address
        FROM view_rows v
            JOIN states s ON {same_key("v.context", "s.k")}
            JOIN latents l ON {same_key("v.latent", "l.k")}
            LEFT JOIN null_rows n ON v.place = n.place
            LEFT JOIN reference_rows r ON v.place = r.place
        WHERE {_has_null(null_row)}
            AND (v.reference0 IS NULL OR r.row IS NOT NULL)
        ORDER BY v.place, s.row, l.row
        """
    )
    yield from found.to_arrow_reader(BATCH_ROWS)


def _write(folder: Path, rows: Iterator[pa.RecordBatch], ranks: dict[str, NDArray[np.int16]]) -> int:
    """Write the samples of an index; returns how many."""
    kept, last = 0, -1
    with ColumnWriter(folder / "samples.npy", SAMPLE) as file:
        for batch in rows:
            place = batch.column("place").to_numpy()
            is_first = np.diff(place, prepend=last) != 0
            samples = np.empty(int(is_first.sum()), SAMPLE)
            for name in SAMPLE.fields or ():
                values = batch.column(name).to_numpy()[is_first]
                samples[name] = ranks[name][values] if name in ranks else values
            file.add(samples)
            kept, last = kept + len(samples), int(place[-1])
    return kept


def _write_cells(folder: Path) -> None:
    """Write the rows by cell, from the samples that are there."""
    samples = map_column(folder / "samples.npy")
    cells = sort_into_cells(samples["group"], samples["source"], partial(new_column, folder / "by_cell.npy"))
    np.save(folder / "cells.npy", cells.cells)


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A new folder, which takes the place and name of `folder` when the block ends; where it fails, that one stays.

    Whoever has mapped a file of the old one keeps it.
    """
    partial_folder = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    try:
        yield partial_folder
        shutil.rmtree(folder, ignore_errors=True)
        partial_folder.rename(folder)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
