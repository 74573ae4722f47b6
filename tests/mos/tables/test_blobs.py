"""Payloads in memory and in a table: the same values, whichever way rows were cut."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from mos.tables.blobs import is_payload, payload_field, plain_schema, storage_version, stored_rows, stored_schema
from mos.tables.lance import TableVersion, commit_fragments, create_table, write_rows
from tests.mos.tables.latent_rows import SCHEMA, rows

PICTURE = pa.field("picture", pa.large_binary(), nullable=False)


def test_a_payload_is_told_from_other_large_values() -> None:
    assert is_payload(payload_field("payload"))
    assert is_payload(PICTURE.with_metadata({b"mos:stored": b"blob", b"more": b"x"}))
    assert not is_payload(PICTURE)
    assert not is_payload(PICTURE.with_metadata({b"mos:stored": b"plain"}))


def test_the_stored_schema_turns_back_into_the_one_it_was_made_from(table: TableVersion) -> None:
    assert plain_schema(stored_schema(SCHEMA)).equals(SCHEMA, check_metadata=True)
    assert plain_schema(table.open().schema).equals(SCHEMA, check_metadata=True)
    without = pa.schema([PICTURE], metadata={"source": "x"})
    assert stored_schema(without).equals(without, check_metadata=True)


def test_blobs_have_the_format_that_knows_them_and_pictures_the_fastest_one(tmp_path: Path) -> None:
    for field, version in ((payload_field("payload"), "2.2"), (PICTURE, "2.0")):
        schema = pa.schema([pa.field("key", pa.string()), field])
        table = create_table(str(tmp_path / field.name), schema)
        (fragment,) = write_rows(table.uri, pa.table([["k"], [b"x"]], schema=schema))
        (file,) = json.loads(fragment)["files"]
        assert storage_version(schema) == f"{file['file_major_version']}.{file['file_minor_version']}" == version


@pytest.mark.parametrize("cut", ["whole", "in chunks", "from the middle"])
def test_rows_come_out_of_a_table_as_they_went_in(table: TableVersion, cut: str) -> None:
    whole = rows("a", "", "c", "d")
    given = {
        "whole": whole,
        "in chunks": pa.concat_tables([whole[:1], whole[1:3], whole[3:3], whole[3:]]),
        "from the middle": whole[1:3],
    }[cut]
    latest = commit_fragments(table.uri, write_rows(table.uri, given), given.num_rows)
    assert latest.open().scanner(blob_handling="all_binary").to_table().to_pydict() == given.to_pydict()


def test_no_rows_have_the_stored_schema_too() -> None:
    assert stored_rows(SCHEMA.empty_table()).num_rows == 0
    assert stored_rows(SCHEMA.empty_table()).schema.equals(stored_schema(SCHEMA), check_metadata=True)


def test_payloads_are_not_copied() -> None:
    given = rows("a", "b")
    stored = stored_rows(given).column("payload").chunk(0).storage.field(0)
    assert stored.buffers()[2].address == given.column("payload").chunk(0).buffers()[2].address
