"""What may go from a table: never what a view, a record or a run at work may need."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from mos.errors import UserError
from mos.loader.index import EncodedTables
from mos.tables.blobs import plain_schema
from mos.tables.inventory import TableSummary, describe_table
from mos.tables.lance import (
    TableVersion,
    commit_fragments,
    latest_version,
    open_table,
    read_column,
    table_exists,
    write_rows,
)
from mos.tables.removal import Removal, compact, plan_removal, remove, remove_orphans
from mos.tables.runs import RegisteredRun, run_id
from tests.mos.tables.latent_rows import append, keys, rows, write
from tests.mos.tables.run_users import user_of
from tests.mos.tables.sample_tables import make_tables

STALE = ("stale 1", "stale 2", "stale 3")


@pytest.fixture
def tables(tmp_path: Path) -> EncodedTables:
    """Latents with three rows that no view asks for, in a version that no record names."""
    made = make_tables(tmp_path, num_pairs=3, num_edits=1)
    schema = plain_schema(made.latents.open().schema)
    stale = pa.table([list(STALE), ["16x16"] * 3, [b"x"] * 3], schema=schema)
    commit_fragments(made.latents.uri, write_rows(made.latents.uri, stale), 3)
    return made


def listed(table: TableVersion) -> TableSummary:
    return describe_table(table.uri, "latents", [])


def test_rows_and_versions_that_nobody_needs_go_and_the_newest_version_stays(tables: EncodedTables) -> None:
    pinned = tables.latents
    plan = plan_removal(listed(pinned), [user_of(tables)], margin_s=0)
    assert (plan.whole, plan.keys, plan.versions) == (False, STALE, (1,))
    assert plan.describe() == (
        f"{pinned.uri}: 3 of {pinned.rows + 3} rows and 1 versions (no view asks for the rows, no record names the "
        "versions)"
    )
    remove(plan)
    assert read_column(latest_version(pinned.uri), "latent_key") == read_column(pinned, "latent_key")
    with pytest.raises(UserError, match="at version 1"):
        open_table(pinned.uri, 1)


def test_where_all_is_needed_nothing_goes(tables: EncodedTables) -> None:
    table, users = describe_table(tables.states.uri, "states", []), [user_of(tables)]
    plan = plan_removal(table, users, margin_s=0)
    assert (plan.keys, plan.versions) == ((), (1,))
    users.append(user_of(replace(tables, states=replace(tables.states, version=1))))
    plan = plan_removal(table, users, margin_s=0)
    assert plan.is_empty
    assert f"{tables.states.uri}: nothing (" in plan.describe()
    remove(plan)
    assert latest_version(tables.states.uri) == tables.states


def test_a_table_that_changed_lately_is_left_alone(tables: EncodedTables) -> None:
    plan = plan_removal(listed(tables.latents), [])
    assert plan.is_empty
    assert "changed less than 168 h ago: a run may be at work" in plan.describe()
    rested = replace(listed(tables.latents), changed_at=time.time() - 8 * 86400)
    assert plan_removal(rested, []).whole


def test_a_table_that_no_record_names_goes_as_a_whole(tables: EncodedTables) -> None:
    users = [user_of(replace(tables, latents=replace(tables.latents, uri="/another.lance")))]
    plan = plan_removal(listed(tables.latents), users, margin_s=0)
    assert (plan.whole, plan.keys, plan.versions) == (True, (), ())
    assert f"the whole table ({tables.latents.rows + 3} rows, {plan.table.num_bytes} bytes)" in plan.describe()
    remove(plan)
    assert [table_exists(table.uri) for table in (tables.latents, tables.states)] == [False, True]


def test_one_run_that_cannot_be_asked_keeps_everything(tables: EncodedTables) -> None:
    unknown = RegisteredRun("gone", "/gone", None)
    table = replace(listed(tables.latents), uri="/tables/latents/pixel-1")
    plan = plan_removal(table, [user_of(tables), unknown], margin_s=0)
    assert plan.is_empty
    remedy = f"where these runs are gone for good, delete /tables/users/{run_id('/gone')}.json"
    assert plan.reason == f"the records in /gone cannot be read from here: {remedy}"


def test_compaction_joins_fragments_and_leaves_pinned_versions_whole(table: TableVersion) -> None:
    table = append(append(table, "a", "b"), "c", "d")
    open_table(table.uri).delete("latent_key = 'b'")
    assert compact(table.uri, 100) == (2, 1)
    latest = latest_version(table.uri)
    assert keys(latest) == ["a", "c", "d"]
    read = table.open().scanner(blob_handling="all_binary").to_table()
    assert read.to_pydict() == rows("a", "b", "c", "d").to_pydict()
    open_table(table.uri).delete("latent_key = 'c'")
    assert compact(table.uri, 100) == (1, 1)
    (fragment,) = open_table(table.uri).get_fragments()
    assert (fragment.count_rows(), fragment.num_deletions) == (2, 0)


@pytest.mark.parametrize("with_a_removal", [False, True])
def test_files_that_no_version_names_go_once_they_are_a_week_old(table: TableVersion, with_a_removal: bool) -> None:
    def files() -> set[Path]:
        return {path for path in Path(table.uri, "data").rglob("*") if path.is_file()}

    append(table, "a")
    named = files()
    write(table, "b")
    orphans = files() - named
    for days, left in ((6, orphans), (8, set())):
        for path in named | orphans:
            os.utime(path, (time.time() - days * 86400,) * 2)
        if with_a_removal:
            remove(Removal(listed(table), False, (), (), "nothing else"))
        else:
            remove_orphans(table.uri)
        assert files() == named | left
    assert orphans
