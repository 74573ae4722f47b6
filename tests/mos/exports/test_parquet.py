import io
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from mos.exports import parquet
from mos.exports.parquet import stored_schema, write_parquet
from mos.exports.plan import plan_shards
from mos.exports.rows import exported_schema, read_rows
from tests.mos.exports.tables import samples_table


@pytest.mark.parametrize("rows_per_group", [1, 4, 100])
def test_a_file_holds_the_rows_and_tells_datasets_what_they_are(tmp_path, monkeypatch, rows_per_group):
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", rows_per_group)
    monkeypatch.setattr("mos.exports.rows.ROWS_PER_BATCH", min(rows_per_group, 3))
    table = samples_table(tmp_path)
    (shard,) = plan_shards(table, "", "parquet", 100)
    path = tmp_path / "train.parquet"
    assert write_parquet(path, read_rows(table, shard, ""), exported_schema(table)) == shard.num == 17
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    assert sum(groups) == 17
    assert all(rows_per_group <= num <= rows_per_group + 3 for num in groups[:-1])
    rows, expected = file.read().to_pylist(), table.open().to_table().to_pylist()
    for row, source in zip(rows, expected, strict=True):
        for name in ("image", "reference"):
            picture = row.pop(name)
            assert (None if picture is None else picture["bytes"]) == source[name]
            assert picture is None or picture["path"] == f"{source['sample_id']}.png"
            assert picture is None or Image.open(io.BytesIO(picture["bytes"])).size == (64, 48)
        assert row == {name: source[name] for name in row}


def test_features_are_those_of_the_columns(tmp_path):
    schema = stored_schema(exported_schema(samples_table(tmp_path)))
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["image"] == features["reference"] == {"_type": "Image"}
    assert features["caption"] == {"dtype": "string", "_type": "Value"}
    assert features["width"] == {"dtype": "int32", "_type": "Value"}
    assert features["sharpness"] == {"dtype": "float32", "_type": "Value"}
    assert {feature.get("dtype") for feature in features.values()} == {None, "string", "int32", "float32"}


def test_a_file_that_fails_half_way_leaves_nothing(tmp_path):
    table = samples_table(tmp_path / "table")
    (shard,) = plan_shards(table, "", "parquet", 100)

    def batches():
        yield from read_rows(table, shard, "")
        raise OSError("the disk is full")

    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="full"):
        write_parquet(tmp_path / "out" / "train.parquet", batches(), exported_schema(table))
    assert list((tmp_path / "out").iterdir()) == []
