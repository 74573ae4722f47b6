from dataclasses import replace
from itertools import chain

import pytest

from mos.errors import UserError
from mos.exports.plan import plan_shards, rows_of
from mos.exports.rows import read_rows
from tests.mos.exports.tables import samples_table
from tests.samples import Pair, append_samples


def keys(table, shard, where=""):
    return [key for batch in read_rows(table, shard, where) for key in batch.column("key").to_pylist()]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("where", ["", "width >= 68", "source != 'edits' OR width > 70"])
def test_shards_hold_every_row_of_a_view_once_and_in_order(tmp_path, size, where):
    table = samples_table(tmp_path)
    rows = table.open().scanner(columns=["key", "source"], filter=where or None).to_table().to_pylist()
    for source in ("edits", "even", "odd"):
        shards = [one for one in plan_shards(table, where, "webdataset", size) if one.source == source]
        assert [one.name for one in shards] == [f"{source}-{number:05d}.tar" for number in range(len(shards))]
        found = [keys(table, one, where) for one in shards]
        assert [len(part) for part in found] == [one.num for one in shards]
        assert all(len(part) == size for part in found[:-1])
        assert [*chain(*found)] == [row["key"] for row in rows if row["source"] == source]
        assert {one.task for one in shards} == {"edit" if source == "edits" else "generate"}
    shards = plan_shards(table, where, "parquet", size)
    assert [*chain(*(keys(table, one, where) for one in shards))] == [row["key"] for row in rows]
    assert shards[0].name == f"data/train-00000-of-{len(shards):05d}.parquet"
    assert {one.source for one in shards} == {""}


def test_a_batch_border_inside_a_shard_is_no_border(tmp_path, monkeypatch):
    table = samples_table(tmp_path)
    whole = plan_shards(table, "", "webdataset", 3)
    monkeypatch.setattr("mos.exports.plan.ROWS_PER_BATCH", 2)
    assert plan_shards(table, "", "webdataset", 3) == whole


def test_a_view_without_samples_has_no_shards(tmp_path):
    assert plan_shards(samples_table(tmp_path), "width > 1000", "webdataset", 3) == []


@pytest.mark.parametrize("where", ["nonsense > 1", "width >", "caption > 3 ;"])
def test_a_filter_that_is_none_is_refused(tmp_path, where):
    with pytest.raises(UserError, match="is refused"):
        plan_shards(samples_table(tmp_path), where, "webdataset", 3)


def test_a_source_of_two_tasks_is_refused(tmp_path):
    table = append_samples(tmp_path, [Pair("a"), Pair("b", reference="white")])
    with pytest.raises(UserError, match="'test' has pairs and edits"):
        plan_shards(table, "", "webdataset", 3)
    assert len(plan_shards(table, "", "parquet", 3)) == 1


def test_quotes_in_a_source_stay_text(tmp_path):
    (shard, *_) = plan_shards(samples_table(tmp_path), "", "webdataset", 3)
    assert "source = 'o''dd'" in rows_of(replace(shard, source="o'dd"), "")
