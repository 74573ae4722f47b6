from pathlib import Path

import pyarrow as pa
import pytest

from mos.tables import task_table as module
from mos.tables.lance import table_exists
from mos.tables.task_table import FOLDER, task_table

ROWS = pa.table({"row": list(range(1000))})


def test_its_rows_are_read_by_place_until_the_block_ends(tmp_path: Path) -> None:
    with task_table(str(tmp_path), ROWS.schema, iter(ROWS.to_batches(64))) as table:
        read = table.open().to_table(offset=700, limit=65)
        assert read.column("row").to_pylist() == list(range(700, 765))
        with task_table(str(tmp_path), ROWS.schema, iter(ROWS.to_batches(64))):
            assert len(list((tmp_path / FOLDER).iterdir())) == 2
        assert table.rows == table.open().count_rows() == 1000
    assert not table_exists(table.uri)


def test_what_a_killed_run_left_goes_after_a_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = task_table(str(tmp_path), ROWS.schema, iter(ROWS.to_batches()))
    left = killed.__enter__()
    with task_table(str(tmp_path), ROWS.schema, iter(ROWS.to_batches())):
        assert table_exists(left.uri)
    monkeypatch.setattr(module, "MAX_AGE_S", -1)
    module.drop_old(str(tmp_path))
    assert not table_exists(left.uri)
