"""The inventory of a folder of tables: each once, as it is now, with what it holds and who uses it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from mos.errors import UserError
from mos.states.payload import StateCodec
from mos.tables.inventory import describe_table, list_tables
from mos.tables.lance import TableVersion, open_table
from mos.tables.runs import RegisteredRun
from mos.tables.state_tables import states_schema
from tests.mos.tables.latent_rows import append, rows
from tests.mos.tables.run_users import user_of
from tests.mos.tables.sample_tables import make_tables, write


def states(*keys: str) -> pa.Table:
    codec = StateCodec("bf16", (0, 1), 4)
    columns = [list(keys), [1] * len(keys), [500 * key.encode() for key in keys]]
    return pa.table(columns, schema=states_schema("tower-x", codec))


@pytest.fixture
def east_of_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as there:
        there.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


def test_tables_are_listed_by_kind_and_name(tmp_path: Path) -> None:
    write(tmp_path / "queues" / "stage1", states("a"))
    write(tmp_path / "latents" / "pixel-1", rows("a", "b"))
    write(tmp_path / "states" / "y", states("a", "b", "c"))
    write(tmp_path / "states" / "x", states())
    (tmp_path / "states" / "never committed").mkdir()
    listed = list_tables(str(tmp_path), [])
    assert [(one.kind, Path(one.uri), one.rows, one.encoder, one.format) for one in listed] == [
        ("states", tmp_path / "states" / "x", 0, "tower-x", "bf16"),
        ("states", tmp_path / "states" / "y", 3, "tower-x", "bf16"),
        ("latents", tmp_path / "latents" / "pixel-1", 2, "pixel-1", "float16"),
        ("queues", tmp_path / "queues" / "stage1", 1, "tower-x", "bf16"),
    ]


def test_a_folder_without_tables_lists_none(tmp_path: Path) -> None:
    assert list_tables(str(tmp_path), []) == []


def test_bytes_are_those_of_all_files_of_the_newest_version(table: TableVersion) -> None:
    append(append(table, "a", "b"), "c")
    listed = describe_table(table.uri, "latents", [])
    assert listed.num_bytes == sum(path.stat().st_size for path in Path(table.uri, "data").rglob("*") if path.is_file())
    assert listed.num_bytes > 3000
    assert (listed.num_fragments, listed.rows) == (2, 3)


def test_versions_are_those_that_can_still_be_opened(table: TableVersion) -> None:
    append(append(table, "a"), "b")
    assert describe_table(table.uri, "latents", []).versions == (1, 2, 3)
    open_table(table.uri).cleanup_old_versions(versions=[2])
    assert describe_table(table.uri, "latents", []).versions == (1, 3)


@pytest.mark.usefixtures("east_of_greenwich")
def test_a_table_changed_when_its_newest_version_was_written(table: TableVersion) -> None:
    newest = max(path.stat().st_mtime for path in Path(table.uri, "_versions").iterdir())
    changed_at = describe_table(table.uri, "latents", []).changed_at
    assert changed_at == pytest.approx(newest, abs=60)
    append(table, "a")
    assert describe_table(table.uri, "latents", []).changed_at > changed_at


def test_users_are_those_whose_records_name_it_or_cannot_be_read(tmp_path: Path) -> None:
    tables = make_tables(tmp_path, num_pairs=2, num_edits=0)
    other = make_tables(tmp_path / "other", num_pairs=2, num_edits=0)
    users = [
        user_of(tables, name="mine"),
        user_of(other, name="other"),
        RegisteredRun("unknown", "/gone", None),
        user_of(),
    ]
    assert describe_table(tables.latents.uri, "latents", users).users == ("mine", "unknown")
    assert describe_table(other.states.uri, "states", users[:2]).users == ("other",)


def test_where_no_table_is_a_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^there is no table at {tmp_path}/none$"):
        describe_table(f"{tmp_path}/none", "states", [])


def test_a_damaged_table_is_listed(table: TableVersion) -> None:
    append(table, "a")
    assert not describe_table(table.uri, "latents", []).is_damaged
    (path,) = Path(table.uri, "data").glob("*.lance")
    path.unlink()
    listed = describe_table(table.uri, "latents", [])
    assert listed.is_damaged
    assert listed.rows == 1
