"""Runs that use a folder of tables: registered once, asked for what their records say, believed when silent."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mos.errors import UserError
from mos.ledger import StepLedger
from mos.loader.index import EncodedTables
from mos.tables.lance import TableVersion, read_column
from mos.tables.runs import needed_keys, read_run, read_runs, register_run, run_id
from tests.mos.tables.run_users import encode_outputs, record, user_of
from tests.mos.tables.sample_tables import make_tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> EncodedTables:
    return make_tables(tmp_path_factory.mktemp("tables"), num_pairs=6, num_edits=2)


def at_version(table: TableVersion, version: int) -> TableVersion:
    return replace(table, version=version)


def test_a_run_is_one_user_however_often_it_registers(tmp_path: Path) -> None:
    for root, name in (("/b", "second"), ("/a", "first"), ("/b", "renamed")):
        register_run(str(tmp_path), root, name)
    users = read_runs(str(tmp_path))
    assert {(user.name, user.root) for user in users} == {("first", "/a"), ("renamed", "/b")}
    assert len(users) == 2
    assert all((tmp_path / user.file).is_file() for user in users)
    assert re.fullmatch("[0-9a-f]{12}", run_id("/a"))


def test_a_folder_in_which_nobody_registered_has_no_users(tmp_path: Path) -> None:
    assert read_runs(str(tmp_path)) == []


def test_the_records_say_which_versions_a_run_stands_on(tmp_path: Path, tables: EncodedTables) -> None:
    record(tmp_path, tables)
    record(tmp_path, replace(tables, states=at_version(tables.states, 7)), "e" * 64)
    user = read_run("run", str(tmp_path))
    assert user.versions(tables.states.uri) == {tables.states.version, 7}
    assert user.versions(tables.latents.uri) == {tables.latents.version}
    assert user.versions(tables.samples.uri) == set()
    assert user == replace(user_of(replace(tables, states=at_version(tables.states, 7)), tables), root=str(tmp_path))


def test_a_run_that_has_encoded_nothing_needs_nothing(tmp_path: Path) -> None:
    user = read_run("run", str(tmp_path))
    assert user.encodings == ()
    assert user.versions("any") == set()


def test_a_root_that_cannot_be_seen_from_here_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    user = read_run("run", str(tmp_path / "elsewhere"))
    assert user.encodings is None
    assert user.versions("any") == set()


@pytest.mark.parametrize("text", ["", '{"name": ', "null", '{"name": "run"}'])
def test_a_registration_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    register_run(str(tmp_path), "/somewhere", "run")
    (path,) = (tmp_path / "users").iterdir()
    path.write_text(text)
    with pytest.raises(UserError, match=rf"{path.name} names no run .*: delete it if the run is gone"):
        read_runs(str(tmp_path))


@pytest.mark.parametrize("damage", ["a field less", "null", "torn"])
def test_one_record_that_cannot_be_read_hides_all_that_a_run_needs(
    tmp_path: Path, tables: EncodedTables, damage: str
) -> None:
    record(tmp_path, tables)
    outputs = encode_outputs(tables)
    del outputs["codec_id"]
    StepLedger(tmp_path).record("encode", "e" * 64, outputs, 0.0, "")
    if damage != "a field less":
        text = {"null": "null", "torn": '{"name": '}[damage]
        (tmp_path / "steps" / "encode" / f"{'e' * 64}.json").write_text(text)
    assert read_run("run", str(tmp_path)).encodings is None


@pytest.mark.parametrize("kind", ["states", "latents"])
def test_a_view_can_ask_for_every_row_that_was_encoded_for_it(tables: EncodedTables, kind: str) -> None:
    table = getattr(tables, kind)
    assert needed_keys([user_of(tables)], table.uri, kind) == set(read_column(table, table.open().schema.names[0]))


def test_needs_of_all_runs_are_joined_and_those_of_other_tables_left_out(tmp_path: Path, tables: EncodedTables) -> None:
    more = make_tables(tmp_path, num_pairs=9, num_edits=0)
    elsewhere = replace(tables.latents, uri="/elsewhere.lance")
    users = [
        user_of(replace(tables, latents=elsewhere), name="other"),
        user_of(replace(more, latents=tables.latents), name="more"),
    ]
    few, many = (set(read_column(one.latents, "latent_key")) for one in (tables, more))
    uri = tables.latents.uri
    assert needed_keys(users[:1], uri, "latents") == set()
    assert needed_keys(users, uri, "latents") == many
    assert needed_keys([*users, user_of(tables)], uri, "latents") == few | many
    assert few - many
