import os
from pathlib import Path

import pyarrow as pa
import pytest

from mos.tables.committer import Committer, payload_table, within_bytes, write_encoded
from mos.tables.journal import Journal
from mos.tables.lance import TableVersion, open_table, read_column
from mos.tables.schema import LATENTS
from tests.mos.tables.latent_rows import rows


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


def test_two_writers_of_one_table_give_each_key_once(table: TableVersion) -> None:
    first, second = Committer(table, 1), Committer(table, 2)
    first.expect("abc")
    second.expect("abc")
    second.add(write(table, "a", "b"))
    first.add(write(table, "b", "c"))
    second.add(write(table, "c"))
    first.add(write(table, "a"))
    assert (first.num_committed, second.num_committed) == (2, 1)
    assert sorted(read_column(first.finish(), "latent_key")) == ["a", "b", "c"]
    assert sorted(read_column(second.finish(), "latent_key")) == ["a", "b", "c"]
    assert open_table(table.uri).count_rows() == 3


def test_a_run_commits_what_a_killed_one_wrote(table: TableVersion) -> None:
    write(table, "a", "b")
    write(table, "b", "c")  # an actor's second attempt at a part of it
    committer = Committer(table, 1)
    assert committer.recover() == 3
    stored = committer.table.open().to_table(columns=["latent_key", "bucket"]).to_pylist()
    assert sorted(row["latent_key"] for row in stored) == ["a", "b", "c"]
    assert Journal(table.uri).read() == []
    assert committer.recover() == 0


def test_committed_fragments_leave_the_journal(table: TableVersion) -> None:
    committer = Committer(table, 1)
    committer.expect("a")
    committer.add(write(table, "a"))
    assert Journal(table.uri).read() == []


@pytest.mark.parametrize("pattern", ["*.lance", "*/*.blob"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_fragment_that_a_power_loss_cut_short_is_encoded_again(table: TableVersion, pattern: str, cut: bool) -> None:
    write(table, "a", "b")
    for path in Path(table.uri, "data").glob(pattern):
        os.truncate(path, path.stat().st_size - 1) if cut else path.unlink()
    write(table, "c")
    committer = Committer(table, 1)
    assert committer.recover() == 1
    assert read_column(committer.table, "latent_key") == ["c"]
    assert Journal(table.uri).read() == []


def test_a_fragment_whose_file_is_gone_is_never_committed(table: TableVersion) -> None:
    rows = write(table, "a")
    for path in Path(table.uri, "data").glob("*.lance"):
        path.unlink()
    assert Committer(table, 1).recover() == 0
    committer = Committer(table, 1)
    committer.expect("a")
    with pytest.raises(RuntimeError, match="lost fragments"):
        committer.add(rows)
    assert open_table(table.uri).count_rows() == 0


@pytest.mark.parametrize(
    ("sizes", "runs"),
    [
        ([], [[]]),
        ([4, 4, 4], [[4, 4], [4]]),
        ([9, 1, 20, 1, 8], [[9], [1], [20], [1, 8]]),
        ([10], [[10]]),
    ],
)
def test_runs_of_rows_are_cut_where_their_payloads_are_too_many_bytes(sizes: list[int], runs: list[list[int]]) -> None:
    found = within_bytes((bytes(size) for size in sizes), 9, lambda payload: payload)
    assert [[len(payload) for payload in run] for run in found] == runs


@pytest.mark.parametrize("num", [0, 1, 3])
def test_rows_become_arrow_on_the_bytes_of_their_payloads(num: int) -> None:
    plain = [{"latent_key": str(row), "bucket": "32x32", "payload": bytes([row] * 5000)} for row in range(num)]
    before = pa.total_allocated_bytes()
    made = payload_table(plain, LATENTS)
    assert pa.total_allocated_bytes() - before < 5000
    assert made.schema == LATENTS
    assert made.to_pylist() == plain
