import os
import socket
import subprocess
import sys

import numpy as np
import pyarrow as pa

from mos.states.keys import context_key
from mos.tables import workspace as module
from mos.tables.workspace import PREFIX, fill, fill_keys, key_fields, same_key, workspace

NUMBERS = pa.schema([pa.field("number", pa.int64())])


def test_what_is_more_than_memory_stands_on_disk_and_goes_with_the_block(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(module, "MEMORY_MB", 64)
    rng = np.random.default_rng(0)
    with workspace() as database:
        fill(database, "numbers", NUMBERS, ({"number": rng.integers(0, 2**62, 100_000)} for _ in range(100)))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) > 10e6
        reader = database.sql("SELECT number FROM numbers ORDER BY number").to_arrow_reader(50_000)
        last, rows = -1, 0
        for batch in reader:
            values = batch.column(0).to_numpy()
            assert values[0] >= last
            assert (np.diff(values) >= 0).all()
            last, rows = values[-1], rows + len(values)
    assert rows == 10_000_000
    assert not os.listdir(tmp_path)


def test_what_a_killed_process_left_behind_goes_with_the_next_database(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (ended := subprocess.Popen([sys.executable, "-c", ""])).wait()
    host = socket.gethostname()
    names = [f"{PREFIX}{host}-{ended.pid}-a", f"{PREFIX}{host}-{os.getpid()}-b", f"{PREFIX}elsewhere-{ended.pid}-c"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "spilled").touch()
    with workspace():
        pass
    assert sorted(os.listdir(tmp_path)) == sorted(names[1:])


def test_no_batch_at_all_is_a_table_without_rows():
    with workspace() as database:
        fill(database, "numbers", NUMBERS, iter([]))
        assert database.execute("SELECT count(*) FROM numbers").fetchall() == [(0,)]


def test_rows_are_numbered_through_all_chunks_of_keys(monkeypatch):
    monkeypatch.setattr(module, "BATCH_ROWS", 2)
    keys = [context_key(str(number)) for number in range(7)]
    table = pa.table({"context_key": pa.chunked_array([keys[:3], [], keys[3:]])})
    with workspace() as database:
        fill_keys(database, "a", table)
        fill_keys(database, "b", table.slice(2, 3))
        found = database.execute(f"SELECT a.row, b.row FROM a JOIN b ON {same_key('a.k', 'b.k')} ORDER BY 1").fetchall()
    assert found == [(2, 0), (3, 1), (4, 2)]
    assert [field.name for field in key_fields("k")] == ["k0", "k1", "k2", "k3"]
