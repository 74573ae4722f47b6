from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from lance.blob import blob_array, blob_field

from mos.tables import blob_reader
from mos.tables.blob_reader import FileReader, LanceReader, index_blobs, open_blobs
from mos.tables.blobs import payload_field
from mos.tables.lance import TableVersion, commit_fragments, create_table, open_table, write_rows

SCHEMA = pa.schema(
    [pa.field("number", pa.int32(), nullable=False), pa.field("name", pa.string()), payload_field("payload")]
)


def content(number: int) -> bytes:
    """Bytes that only this row has; sizes from none to more than a page, never a multiple of 64."""
    rng = np.random.default_rng(number)
    return rng.bytes(0 if number % 11 == 3 else int(rng.integers(1, 20_000)) | 1)


@pytest.fixture
def table(tmp_path: Path) -> TableVersion:
    """Sixty rows in five fragments."""
    uri = str(tmp_path / "payloads.lance")
    create_table(uri, SCHEMA)
    for start in range(0, 60, 12):
        numbers = list(range(start, start + 12))
        rows = {"number": numbers, "name": ["ab"[n % 2] for n in numbers], "payload": [content(n) for n in numbers]}
        latest = commit_fragments(uri, write_rows(uri, pa.table(rows, SCHEMA)), 12)
    return latest


def read(reader, index, rows: list[int]) -> list[bytes]:
    buffers = [bytearray(size) for size in index.size[rows].tolist()]
    reader.read(rows, [memoryview(buffer) for buffer in buffers])
    return [bytes(buffer) for buffer in buffers]


def check(table: TableVersion, numbers: list[int]) -> None:
    """Both readers give the content of these numbers, row by row and shuffled."""
    index, reader = open_blobs(table, "payload", ["number", "name"])
    assert isinstance(reader, FileReader)
    assert index.light.column("number").to_pylist() == numbers
    assert index.light.column("name").to_pylist() == ["ab"[number % 2] for number in numbers]
    shuffled = np.random.default_rng(0).permutation(len(numbers)).tolist()
    through_lance = LanceReader(table.open(), "payload")
    for rows in (list(range(len(numbers))), shuffled, shuffled[:3], shuffled[5:6]):
        expected = [content(numbers[row]) for row in rows]
        assert read(reader, index, rows) == expected
        assert read(through_lance, index, rows) == expected


def test_files_and_lance_give_the_same_bytes(table):
    check(table, list(range(60)))


def test_after_rows_were_deleted(table):
    open_table(table.uri).delete("number % 7 = 2 OR number BETWEEN 24 AND 35")
    latest = open_table(table.uri)
    numbers = [number for number in range(60) if number % 7 != 2 and not 24 <= number <= 35]
    check(TableVersion(table.uri, latest.version, len(numbers)), numbers)
    check(table, list(range(60)))


def test_after_compaction(table):
    open_table(table.uri).delete("number IN (0, 13, 59)")
    open_table(table.uri).optimize.compact_files()
    latest = open_table(table.uri)
    assert len(latest.get_fragments()) == 1
    numbers = [number for number in range(60) if number not in (0, 13, 59)]
    check(TableVersion(table.uri, latest.version, len(numbers)), numbers)
    check(table, list(range(60)))


def test_payloads_lie_in_pack_files_not_in_the_data_file(table):
    index = index_blobs(table.open(), "payload", [])
    used = {Path(table.uri) / index.files[number] for number in index.file[index.size > 0]}
    assert len(used) == 5
    assert sum(path.stat().st_size for path in used) == sum(len(content(number)) for number in range(60))


def test_fragments_with_several_pack_files_and_payloads_in_files_of_their_own(tmp_path):
    thresholds = {"inline_size_threshold": 0, "dedicated_size_threshold": 15_000, "pack_file_size_threshold": 20_000}
    schema = pa.schema([blob_field("payload", nullable=False, **thresholds)])
    rows = pa.table({"payload": blob_array([content(number) for number in range(40)])}, schema)
    dataset = lance.write_dataset(rows, str(tmp_path / "many.lance"), data_storage_version="2.2")
    index, reader = open_blobs(TableVersion(dataset.uri, dataset.version, 40), "payload", [])
    assert isinstance(reader, FileReader)
    assert len(index.files) > 10
    assert read(reader, index, list(range(40))) == [content(number) for number in range(40)]


def test_payloads_inside_the_data_file_are_read_through_lance(tmp_path):
    rows = pa.table({"payload": blob_array([b"small", b"", b"values"])}, pa.schema([blob_field("payload")]))
    dataset = lance.write_dataset(rows, str(tmp_path / "inline.lance"), data_storage_version="2.2")
    index, reader = open_blobs(TableVersion(dataset.uri, dataset.version, 3), "payload", [])
    assert isinstance(reader, LanceReader)
    assert read(reader, index, [2, 0, 1]) == [b"values", b"small", b""]


def test_more_files_than_may_stay_open(table, monkeypatch):
    monkeypatch.setattr(blob_reader, "OPEN_FILES", 2)
    index, reader = open_blobs(table, "payload", [])
    rows = list(range(60))
    for _ in range(3):
        assert read(reader, index, rows) == [content(number) for number in rows]
        assert len(reader._open) == 2


def test_a_file_that_is_cut_short_is_an_error(table):
    index, reader = open_blobs(table, "payload", [])
    path = Path(table.uri) / index.files[int(index.file[59])]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match="cut short"):
        read(reader, index, [59])


def test_an_unknown_layout_is_refused(table, monkeypatch):
    monkeypatch.setattr(blob_reader, "_file_name", lambda blob: "other.blob")
    with pytest.raises(FileNotFoundError):
        open_blobs(table, "payload", [])
    index = index_blobs(table.open(), "payload", [])
    for path in index.files:
        (Path(table.uri) / path).write_bytes(bytes(300_000))
    with pytest.raises(RuntimeError, match="lays blobs out in another way"):
        open_blobs(table, "payload", [])


def test_an_empty_table_opens(tmp_path):
    index, _ = open_blobs(create_table(str(tmp_path / "empty.lance"), SCHEMA), "payload", ["number"])
    assert len(index.size) == 0
