from pathlib import Path

import pyarrow as pa
import pytest

from mos.data.encoded import Committer, latents_schema, states_schema, write_encoded
from mos.errors import UserError
from mos.tables import TableVersion, create_table, open_table, read_column


def rows(*keys: str) -> pa.Table:
    values = [{"latent_key": key, "bucket": "32x32", "payload": key.encode()} for key in keys]
    return pa.Table.from_pylist(values, schema=latents_schema("pixel-1", 12, 2))


@pytest.fixture
def table(tmp_path: Path) -> TableVersion:
    return create_table(str(tmp_path / "latents.lance"), latents_schema("pixel-1", 12, 2))


def write(table: TableVersion, *keys: str, failures: dict[str, str] | None = None) -> list[dict]:
    return write_encoded(table.uri, rows(*keys), failures or {}).to_pylist()


def test_nothing_is_visible_before_the_commit(table: TableVersion) -> None:
    committer = Committer(table, fragments_per_commit=2)
    committer.expect("abc")
    committer.add(write(table, "a"))
    assert (committer.num_encoded, committer.num_committed) == (1, 0)
    assert open_table(table.uri).count_rows() == 0
    committer.add(write(table, "b", "c"))
    assert open_table(table.uri).count_rows() == 3
    assert committer.finish().rows == 3
    assert read_column(committer.table, "latent_key") == ["a", "b", "c"]


def test_failed_rows_are_counted_and_leave_no_row(table: TableVersion) -> None:
    committer = Committer(table, fragments_per_commit=1)
    committer.expect("abc")
    committer.add(write(table, "a", failures={"b": "image_truncated"}))
    committer.add(write(table, failures={"c": "image_empty"}))
    assert committer.finish().rows == 1
    assert committer.failures == {"b": "image_truncated", "c": "image_empty"}


def test_a_key_that_comes_twice_commits_nothing_of_its_fragment(table: TableVersion) -> None:
    committer = Committer(table, fragments_per_commit=9)
    committer.expect("ab")
    committer.add(write(table, "a"))
    with pytest.raises(RuntimeError, match="came twice"):
        committer.add(write(table, "b", "a"))
    assert open_table(table.uri).count_rows() == 0


def test_a_key_that_never_comes_is_an_error(table: TableVersion) -> None:
    committer = Committer(table, fragments_per_commit=1)
    committer.expect("ab")
    committer.add(write(table, "a"))
    with pytest.raises(RuntimeError, match="1 rows"):
        committer.finish()


def test_two_writers_of_one_table_do_not_double_its_rows(table: TableVersion) -> None:
    first, second = Committer(table, 1), Committer(table, 1)
    first.expect("a")
    second.expect("a")
    first.add(write(table, "a"))
    with pytest.raises(UserError, match="changed while this run"):
        second.add(write(table, "a"))
    assert open_table(table.uri).count_rows() == 1


def test_tables_of_another_tower_codec_or_format_are_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "states.lance")
    create_table(uri, states_schema("minilm-1", 7, 384, "bf16"))
    create_table(uri, states_schema("minilm-1", 7, 384, "bf16"))
    for other in (("minilm-2", 7, 384, "bf16"), ("minilm-1", 6, 384, "bf16"), ("minilm-1", 7, 384, "int8")):
        with pytest.raises(UserError, match="is to be written"):
            create_table(uri, states_schema(*other))
