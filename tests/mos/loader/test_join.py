"""The join of a view with its encodings, against the one that goes row by row."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mos.errors import UserError
from mos.feeding.contexts import list_contexts
from mos.loader import join
from mos.loader.index import SAMPLE, EncodedTables, SampleIndex
from mos.loader.join import build_index
from mos.tables import workspace
from mos.tables.lance import TableVersion, commit_fragments, latest_version, open_table, write_rows
from mos.tables.schema import samples_schema
from mos.tables.views import View
from tests.mos.loader.plain_index import plain_index
from tests.mos.tables.sample_tables import RESOLUTION, make_tables, sample

BOTH = View(RESOLUTION, tasks=("generate", "edit"))


def assert_as_plain(tables: EncodedTables, view: View, folder: Path, contexts: pa.Table | None = None) -> SampleIndex:
    index, plain = build_index(tables, view, folder / "index", contexts), plain_index(tables, view, contexts)
    for name, (kind, _) in SAMPLE.fields.items():
        column = getattr(index, name)
        assert column.dtype == kind
        assert column.tolist() == plain[name].tolist(), name
    for name in ("groups", "sources", "num_left_out"):
        assert getattr(index, name) == plain[name]
    assert index.cells.rows.tolist() == np.lexsort((np.arange(len(index)), index.group, index.source)).tolist()
    return index


def appended(table: TableVersion, rows: list[dict]) -> TableVersion:
    schema = samples_schema((RESOLUTION,))
    fragments = write_rows(table.uri, pa.Table.from_pylist(rows, schema))
    return commit_fragments(table.uri, fragments, len(rows))


@pytest.mark.parametrize(
    ("view", "count"),
    [
        (BOTH, 50),
        (View(RESOLUTION), 40),
        (View(RESOLUTION, tasks=("edit",)), 10),
        (View(RESOLUTION, "sharpness >= 0.2 OR sharpness < 0.1", ("generate",), ("a",)), 15),
        (View(RESOLUTION, "key = '7'"), 1),
        (View(RESOLUTION, "key IN ('3', '44')", ("generate", "edit"), ("b", "c")), 2),
    ],
)
@pytest.mark.parametrize("batch_rows", [3, 100_000])
def test_it_is_what_a_walk_over_the_rows_finds(tables, tmp_path, monkeypatch, view, count, batch_rows):
    for module in (join, workspace):
        monkeypatch.setattr(module, "BATCH_ROWS", batch_rows)
    assert len(assert_as_plain(tables, view, tmp_path)) == count


def test_samples_without_encodings_are_left_out_and_counted(tmp_path):
    index = assert_as_plain(make_tables(tmp_path, failed=3), BOTH, tmp_path)
    assert (len(index), index.num_left_out) == (47, 3)


@pytest.mark.parametrize("sees_images", [False, True])
def test_contexts_that_no_table_holds_are_numbered_by_their_list(tmp_path, sees_images):
    tables = replace(make_tables(tmp_path), sees_images=sees_images)
    contexts = list_contexts(tables.samples, BOTH, sees_images)
    index = assert_as_plain(tables, BOTH, tmp_path, contexts)
    assert len(set(index.null_state.tolist())) == (11 if sees_images else 1)
    cut = assert_as_plain(tables, BOTH, tmp_path, contexts.slice(1, 25))
    assert cut.num_left_out > 0


def test_odd_samples_and_odd_tables(tmp_path):
    tables = make_tables(tmp_path, num_pairs=20, num_edits=6)
    odd = [
        sample(100, False) | {"caption": 'a "quoted" \\ déjà vu 😀 \x1f'},
        sample(5, False) | {"reference_hash": "f" * 64},  # not an edit: no reference
        sample(22, True) | {"reference_hash": None},
        sample(23, True) | {"caption": ""},
        sample(7, False) | {f"bucket_{RESOLUTION}": None},
    ]
    samples = appended(tables.samples, odd)
    open_table(samples.uri).delete("key IN ('2', '11', '21')")
    for table in (tables.states, tables.latents):  # a key that stands twice, and others that are gone
        data = open_table(table.uri).scanner(blob_handling="all_binary").to_table()
        twice = data.slice(0, 9).cast(pa.schema([*list(data.schema)[:-1], pa.field("payload", pa.large_binary())]))
        rows = pa.Table.from_arrays(twice.columns, schema=_plain(table))
        commit_fragments(table.uri, write_rows(table.uri, rows), rows.num_rows)
        key = data.column(0)[12].as_py()
        open_table(table.uri).delete(f"{data.schema.names[0]} = '{key}'")
    moved = replace(
        tables, **{name: latest_version(getattr(tables, name).uri) for name in ("samples", "states", "latents")}
    )
    index = assert_as_plain(moved, BOTH, tmp_path)
    assert 0 < index.num_left_out < len(index)


def _plain(table: TableVersion) -> pa.Schema:
    from mos.tables.blobs import plain_schema

    return plain_schema(table.open().schema)


def test_a_table_without_rows_leaves_nothing(tmp_path):
    tables = make_tables(tmp_path)
    open_table(tables.latents.uri).delete("true")
    with pytest.raises(UserError, match=r"has 50 samples in .*, of which 0 are encoded"):
        build_index(replace(tables, latents=latest_version(tables.latents.uri)), BOTH, tmp_path / "index")
    assert not [path for path in tmp_path.iterdir() if "index" in path.name]


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View(999), "resolution 999 was not curated"),
        (View(RESOLUTION, "no_such_column > 1"), "no_such_column > 1"),
        (View(RESOLUTION, "sharpness > 100"), "of which 0 are encoded"),
    ],
)
def test_a_view_that_does_not_work_is_explained_and_leaves_the_index_there_is(tables, tmp_path, view, message):
    build_index(tables, BOTH, tmp_path / "index")
    with pytest.raises(UserError, match=message):
        build_index(tables, view, tmp_path / "index")
    assert len(SampleIndex.load(tmp_path / "index")) == 50
