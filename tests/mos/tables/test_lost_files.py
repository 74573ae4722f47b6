"""Tables whose files were deleted or cut short after a commit: named at once, and encoded again when asked."""

from pathlib import Path

import pyarrow as pa
import pytest

from mos.errors import UserError
from mos.tables.blobs import plain_schema
from mos.tables.lance import TableVersion, commit_fragments, latest_version, read_column, write_rows
from mos.tables.lost_files import LostFilesError, drop_lost, lost_files, refuse_lost_files
from mos.tables.payloads import LatentTable, RowCache, StateTable
from tests.mos.tables.sample_tables import make_tables


@pytest.fixture
def tables(tmp_path):
    """Latents in two fragments: the second holds copies of three rows under other keys."""
    made = make_tables(tmp_path)
    rows = made.latents.open().scanner(blob_handling="all_binary").to_table().slice(0, 3)
    keys = pa.array([f"copy {number}" for number in range(3)])
    schema = made.latents.open().schema
    more = pa.table([keys, rows["bucket"], rows["payload"]], schema=plain_schema(schema))
    commit_fragments(made.latents.uri, write_rows(made.latents.uri, more), 3)
    return made


def files_of(table: TableVersion, fragment: int) -> tuple[Path, Path]:
    """Data file and pack file of a fragment."""
    data = Path(table.uri, "data", table.open().get_fragment(fragment).data_files()[0].path)
    (pack,) = data.with_suffix("").iterdir()
    return data, pack


def damage(path: Path, how: str) -> None:
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("how", ["deleted", "cut short"])
@pytest.mark.parametrize("which", ["data", "pack"])
def test_a_lost_file_is_named_and_its_rows_can_be_dropped(tables, which, how):
    table = latest_version(tables.latents.uri)
    assert lost_files(table) == []
    refuse_lost_files(table, "unused")
    path = files_of(table, 1)[which == "pack"]
    damage(path, how)
    ((fragment, name),) = lost_files(table)
    assert (fragment, Path(table.uri, name)) == (1, path)
    with pytest.raises(UserError, match=rf"^table {table.uri} is damaged, a file is .* {name}: do this$"):
        refuse_lost_files(table, "do this")
    left = drop_lost(table)
    assert left.rows == table.rows - 3
    assert lost_files(left) == []
    assert not [key for key in read_column(left, "latent_key") if key.startswith("copy")]
    assert drop_lost(left) == left
    LatentTable(left, RowCache(0)).read(range(left.rows))


def test_a_table_that_lost_all_is_empty_and_can_be_filled(tables):
    """Two fragments in one commit, into a table that once had fragments."""
    for table, row in ((tables.latents, ["key", "16x16", b"x"]), (tables.states, ["key", 1, b"x"])):
        latest = latest_version(table.uri)
        for fragment in latest.open().get_fragments():
            files_of(latest, fragment.fragment_id)[0].unlink()
        assert drop_lost(latest).rows == 0
        schema = plain_schema(latest.open().schema)
        rows = [pa.table([[f"{row[0]} {number}"], *([value] for value in row[1:])], schema=schema) for number in (1, 2)]
        fragments = [fragment for one in rows for fragment in write_rows(table.uri, one)]
        filled = commit_fragments(table.uri, fragments, 2)
        assert read_column(filled, schema.names[0]) == ["key 1", "key 2"]
        assert lost_files(filled) == []


@pytest.mark.parametrize("which", ["data", "pack"])
@pytest.mark.parametrize("kind", ["states", "latents"])
def test_readers_name_a_file_that_goes_later(tables, kind, which):
    table = getattr(tables, kind)
    opened = (StateTable if kind == "states" else LatentTable)(table, RowCache(0))
    path = files_of(table, 0)[which == "pack"]
    path.unlink()
    with pytest.raises(LostFilesError, match=rf"table {table.uri} is damaged, .*{path.name} is missing: .*--force"):
        opened.read([0, 1])


def test_a_payload_that_ends_early_names_its_table(tables):
    opened = StateTable(tables.states, RowCache(0))
    opened.payloads([])
    path = files_of(tables.states, 0)[1]
    path.write_bytes(b"")
    with pytest.raises(LostFilesError, match=rf"table {tables.states.uri} is damaged, a payload .* cut short: run"):
        opened.read([0])
