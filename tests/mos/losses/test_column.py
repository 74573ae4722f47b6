"""Columns of losses beside the others of a real samples table."""

from pathlib import Path

import pyarrow as pa
import pytest

from mos.losses.column import write_columns
from mos.tables.lance import TableVersion, delete_rows, latest_version, open_table
from tests.samples import Pair, append_samples


@pytest.fixture
def table(tmp_path: Path) -> TableVersion:
    """Three fragments, of which one has lost a row."""
    for number in range(3):
        append_samples(tmp_path, [Pair(f"picture {number}{place}") for place in range(4)])
    dataset = open_table(str(tmp_path / "samples.lance"))
    delete_rows(dataset, "caption", ["picture 11"])
    return latest_version(str(tmp_path / "samples.lance"))


def losses_of(table: TableVersion, captions: dict[str, float]) -> pa.Table:
    rows = table.open().scanner(columns=["caption"], with_row_address=True).to_table()
    address = dict(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True))
    shuffled = list(captions.items())[::-1]
    return pa.table(
        {
            "address": pa.array([address[name] for name, _ in shuffled], pa.int64()),
            "loss": pa.array([loss for _, loss in shuffled], pa.float32()),
        }
    )


def files(table: TableVersion) -> dict[str, tuple[int, int]]:
    """Size and time of every data file."""
    paths = Path(table.uri, "data").rglob("*.lance")
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def read(table: TableVersion, column: str) -> dict[str, float | None]:
    rows = table.open().to_table(columns=["caption", column])
    return dict(zip(rows["caption"].to_pylist(), rows[column].to_pylist(), strict=True))


def test_each_row_gets_its_loss_and_the_others_null(table: TableVersion):
    known = {"picture 00": 0.5, "picture 12": 0.25, "picture 23": 2.0}
    after = write_columns(table, {"loss_stage1": losses_of(table, known)})
    assert after.rows == table.rows == 11
    assert read(after, "loss_stage1") == dict.fromkeys(read(after, "loss_stage1")) | known
    assert latest_version(table.uri) == after
    kept = after.open().to_table(columns=["caption"], filter="loss_stage1 < 1")["caption"].to_pylist()
    assert kept == ["picture 00", "picture 12"]


def test_a_loss_that_is_no_number_is_null(table: TableVersion):
    losses = losses_of(table, {"picture 00": float("nan"), "picture 01": 1.0})
    after = write_columns(table, {"loss_stage1": losses})
    assert [read(after, "loss_stage1")[f"picture 0{n}"] for n in (0, 1)] == [None, 1.0]


def test_no_file_is_written_again_and_the_new_ones_are_small(table: TableVersion):
    before = files(table)
    write_columns(table, {"loss_stage1": losses_of(table, {"picture 00": 0.5})})
    after = files(table)
    assert {name: after[name] for name in before} == before
    new = [size for name, (size, _) in after.items() if name not in before]
    assert len(new) == 3
    assert max(new) < 1000 < min(size for size, _ in before.values())


def test_pinned_versions_stay_as_they_are(table: TableVersion):
    names, addresses = table.open().schema.names, addresses_of(table)
    first = write_columns(table, {"loss_stage1": losses_of(table, {"picture 00": 0.5})})
    second = write_columns(table, {"loss_stage1": losses_of(table, {"picture 00": 0.75})})
    assert table.open().schema.names == names
    assert read(first, "loss_stage1")["picture 00"] == 0.5
    assert read(second, "loss_stage1")["picture 00"] == 0.75
    assert addresses_of(first) == addresses_of(second) == addresses
    assert second.open().schema.names == [*names, "loss_stage1"]


def addresses_of(table: TableVersion) -> list[int]:
    return table.open().scanner(columns=["caption"], with_row_address=True).to_table()["_rowaddr"].to_pylist()


def test_several_columns_come_at_once(table: TableVersion):
    known = {"loss_stage1": {"picture 00": 0.5}, "loss_edit": {"picture 23": 4.0}}
    after = write_columns(table, {name: losses_of(table, losses) for name, losses in known.items()})
    assert {name: read(after, name)["picture 23"] for name in known} == {"loss_stage1": None, "loss_edit": 4.0}


def test_newer_samples_stay_the_newest(table: TableVersion, tmp_path: Path):
    newer = append_samples(tmp_path, [Pair("a newer one")])
    after = write_columns(table, {"loss_stage1": losses_of(table, {"picture 00": 0.5})})
    newest = latest_version(table.uri)
    assert newest.version > after.version > newer.version
    assert newest.rows == newer.rows == 12
    assert "loss_stage1" not in newest.open().schema.names
    assert read(after, "loss_stage1")["picture 00"] == 0.5


def test_a_curation_that_goes_on_begins_without_the_column(table: TableVersion, tmp_path: Path):
    write_columns(table, {"loss_stage1": losses_of(table, {"picture 00": 0.5})})
    table.open().restore()  # as curation does before it adds to what its record names
    grown = append_samples(tmp_path, [Pair("a newer one")])
    assert grown.rows == 12
    assert "loss_stage1" not in grown.open().schema.names


def test_a_table_without_measured_rows_gets_nulls(table: TableVersion):
    empty = pa.table({"address": pa.array([], pa.int64()), "loss": pa.array([], pa.float32())})
    assert not any(read(write_columns(table, {"loss_stage1": empty}), "loss_stage1").values())
