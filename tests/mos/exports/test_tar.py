import json

from webdataset import WebDataset

from mos.exports.plan import plan_shards
from mos.exports.rows import read_rows
from mos.exports.tar import write_tar
from tests.mos.exports.tables import samples_table


def test_a_shard_is_what_webdataset_reads(tmp_path):
    table = samples_table(tmp_path)
    rows = {row["sample_id"]: row for row in table.open().to_table().to_pylist()}
    for shard in plan_shards(table, "", "webdataset", 4):
        path = tmp_path / shard.name
        assert write_tar(path, read_rows(table, shard, "")) == shard.num
        found = list(WebDataset([str(path)], shardshuffle=False))
        assert len(found) == shard.num
        for sample in found:
            row = rows.pop(sample["__key__"])
            assert sample["target.png" if shard.task == "edit" else "png"] == row["image"]
            assert sample.get("source.png") == row["reference"]
            assert sample["txt"].decode() == row["caption"]
            record = json.loads(sample["json"])
            assert record.pop("meta", None) == (row["meta"] and json.loads(row["meta"]))
            assert record == {name: row[name] for name in record}
            assert {"source", "task", "width", "height", "sharpness", "aesthetic", "bucket_32"} <= set(record)
    assert not rows


def test_equal_rows_give_equal_files(tmp_path):
    table = samples_table(tmp_path)
    (shard, *_) = plan_shards(table, "", "webdataset", 4)
    for name in ("one.tar", "two.tar"):
        write_tar(tmp_path / name, read_rows(table, shard, ""))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
