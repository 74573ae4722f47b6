"""Tables as versions: what a commit stands on, what it refuses, what readers see of it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from mos.errors import UserError
from mos.tables import lance
from mos.tables.lance import (
    TableMovedError,
    TableVersion,
    append_fragments,
    commit_fragments,
    create_table,
    delete_places,
    delete_rows,
    drop_fragments,
    drop_table,
    is_written,
    latest_version,
    open_table,
    pack_sizes,
    read_written,
    rows_at,
    table_exists,
)
from tests.mos.tables.latent_rows import SCHEMA, append, keys, rows, write


def fragment_numbers(table: TableVersion) -> list[int]:
    return [fragment.fragment_id for fragment in table.open().get_fragments()]


def test_what_was_never_committed_cannot_be_opened(table: TableVersion, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.lance")
    with pytest.raises(UserError, match=f"^table {missing} cannot be opened: "):
        open_table(missing)
    with pytest.raises(UserError, match=f"^table {table.uri} cannot be opened at version 9: "):
        open_table(table.uri, 9)
    assert [table_exists(uri) for uri in (missing, table.uri)] == [False, True]


def test_a_table_that_is_dropped_is_gone_and_one_that_never_was_is_no_error(table: TableVersion) -> None:
    drop_table(table.uri)
    assert not table_exists(table.uri)
    drop_table(table.uri)


def test_a_table_is_created_once_however_many_try(tmp_path: Path) -> None:
    def create(_: int) -> TableVersion:
        return create_table(str(tmp_path / "new.lance"), SCHEMA)

    with ThreadPoolExecutor(4) as pool:
        assert {table.version for table in pool.map(create, range(4))} == {1}


def test_creating_a_table_again_leaves_its_rows(table: TableVersion) -> None:
    filled = append(table, "a")
    assert create_table(table.uri, SCHEMA) == filled == TableVersion(table.uri, 2, 1)


@pytest.mark.parametrize(
    "other",
    [
        SCHEMA.with_metadata(SCHEMA.metadata | {b"codec": b"pixel-2"}),
        SCHEMA.remove_metadata(),
        SCHEMA.append(pa.field("more", pa.string())),
        SCHEMA.set(1, pa.field("bucket", pa.int32(), nullable=False)),
    ],
    ids=["another codec", "no metadata", "another column", "another type"],
)
def test_a_table_that_was_made_for_something_else_is_refused(table: TableVersion, other: pa.Schema) -> None:
    told = rf"^table {table.uri} holds columns .*'codec': 'pixel-1'.*, but columns .* is to be written: use another"
    with pytest.raises(UserError, match=told):
        create_table(table.uri, other)


def test_written_rows_are_seen_by_nobody_until_they_are_committed(table: TableVersion) -> None:
    fragment = write(table, "a", "b").fragment
    assert latest_version(table.uri) == table
    after = commit_fragments(table.uri, [fragment], 2)
    assert (after.version, after.rows, keys(after)) == (2, 2, ["a", "b"])
    assert keys(table) == []


def test_a_commit_stands_on_its_version_or_fails(table: TableVersion) -> None:
    first, second = write(table, "a"), write(table, "b")
    after = append_fragments(table, [first.fragment], 1)
    with pytest.raises(TableMovedError, match=f"table {table.uri} was changed by another run since version 1"):
        append_fragments(table, [second.fragment], 1)
    assert keys(latest_version(table.uri)) == ["a"]
    assert keys(append_fragments(after, [second.fragment], 1)) == ["a", "b"]


def test_fragments_of_one_commit_are_numbered_beyond_those_there(table: TableVersion) -> None:
    table = append(append(table, "a"), "b")
    after = append_fragments(table, [write(table, key).fragment for key in "cd"], 2)
    assert fragment_numbers(after) == [0, 1, 2, 3]
    assert keys(drop_fragments(after, [2])) == ["a", "b", "d"]


def test_another_number_of_rows_than_expected_commits_nothing(table: TableVersion) -> None:
    fragment = write(table, "a", "b").fragment
    for expected in (1, 3):
        with pytest.raises(RuntimeError, match=f"1 fragments for {table.uri} hold 2 rows, expected {expected}"):
            append_fragments(table, [fragment], expected)
    assert latest_version(table.uri) == table


def test_no_fragments_make_no_version(table: TableVersion) -> None:
    assert append_fragments(table, [], 0) == table == latest_version(table.uri)


def test_fragments_are_dropped_and_earlier_versions_keep_them(table: TableVersion) -> None:
    both = append(append(table, "a", "b"), "c")
    after = drop_fragments(both, [0])
    assert (after.version, after.rows, keys(after)) == (4, 1, ["c"])
    assert keys(both) == ["a", "b", "c"]


@pytest.mark.parametrize("change", ["append", "delete", "drop", "compact"])
def test_a_fragment_that_changed_meanwhile_is_not_dropped(table: TableVersion, change: str) -> None:
    both = append(append(table, "a", "b"), "c")
    match change:
        case "append":
            append(both, "d")
        case "delete":
            delete_rows(open_table(both.uri), "latent_key", ["a"])
        case "drop":
            drop_fragments(both, [0])
        case "compact":
            open_table(both.uri).optimize.compact_files()
    latest = latest_version(both.uri)
    with pytest.raises(TableMovedError, match=f"table {table.uri} was changed by another run since version 3"):
        drop_fragments(both, [0])
    assert latest_version(both.uri) == latest


def test_rows_are_deleted_a_few_at_a_time(table: TableVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "VALUES_PER_DELETE", 2)
    filled = append(table, *"abcdef")
    delete_rows(filled.open(), "latent_key", list("fbdca"))
    latest = latest_version(table.uri)
    assert (keys(latest), latest.version - filled.version) == (["e"], 3)
    delete_rows(latest.open(), "latent_key", ["none"])
    delete_rows(latest.open(), "latent_key", [])
    assert keys(latest_version(table.uri)) == ["e"]


def test_rows_are_read_at_their_addresses_in_the_order_of_the_table(table: TableVersion) -> None:
    filled = append(append(table, *"abc"), *"def")
    found = rows_at(filled, ["latent_key"], [(1 << 32) + 2, 1, 1 << 32])
    assert found["latent_key"].to_pylist() == ["b", "d", "f"]
    assert found["_rowaddr"].to_pylist() == [1, 1 << 32, (1 << 32) + 2]


def test_rows_that_nobody_committed_are_read_and_stay_so(table: TableVersion) -> None:
    written = write(table, "a", "b")
    latest = append(table, "c")
    assert read_written(table.uri, written.fragment).equals(rows("a", "b"), check_metadata=True)
    assert latest_version(table.uri) == latest


@pytest.mark.parametrize(
    ("pattern", "without_packs"), [("*.lance", False), ("*/*.blob", True)], ids=["data file", "pack file"]
)
def test_a_fragment_is_written_while_each_of_its_files_has_its_length(
    table: TableVersion, pattern: str, without_packs: bool
) -> None:
    fragment = write(table, "a", "b").fragment
    packs = pack_sizes(table.uri, fragment)
    assert list(packs.values()) == [2000]
    assert is_written(table.uri, fragment, packs)
    (path,) = Path(table.uri, "data").glob(pattern)
    os.truncate(path, path.stat().st_size - 1)
    for _ in range(2):
        assert not is_written(table.uri, fragment, packs)
        assert is_written(table.uri, fragment) is without_packs
        path.unlink(missing_ok=True)


def test_only_the_fragments_own_pack_files_are_measured(table: TableVersion) -> None:
    first, second = write(table, "a").fragment, write(table, "b", "c").fragment
    assert [list(pack_sizes(table.uri, fragment).values()) for fragment in (first, second)] == [[1000], [2000]]


@pytest.mark.parametrize("most", [2, 5000])
def test_rows_at_places_go_in_one_commit(table: TableVersion, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(lance, "VALUES_PER_DELETE", most)
    filled = append(append(append(table, *"abcdef"), *"gh"), *"ij")
    after = delete_places(filled, [(0, [5, 0, 1, 3, 4]), (1, [0, 1])])
    assert (keys(after), after.rows) == (["c", "i", "j"], 3)
    assert after == latest_version(table.uri)
    assert after.version - filled.version == (3 if most == 2 else 1)
    assert delete_places(after, []) == after
    with pytest.raises(TableMovedError, match="was changed by another run since version"):
        delete_places(filled, [(0, [1])])
    with pytest.raises(RuntimeError, match=r"0 rows of .* were deleted for 1 places"):
        delete_places(after, [(2, [7])])
