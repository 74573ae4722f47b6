import pytest

from mos.exports import rows
from mos.exports.plan import plan_shards
from mos.exports.rows import read_rows, suffix_of
from tests.mos.exports.tables import samples_table


def test_rows_come_in_small_batches_and_their_own_order(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "ROWS_PER_BATCH", 3)
    table = samples_table(tmp_path)
    (shard,) = plan_shards(table, "width > 65", "parquet", 100)
    batches = list(read_rows(table, shard, "width > 65"))
    assert max(batch.num_rows for batch in batches) <= 3
    keys = [key for batch in batches for key in batch.column("key").to_pylist()]
    assert keys == [str(number) for number in range(2, 18) if number != 4]


def test_paths_of_this_machine_stay(tmp_path):
    table = samples_table(tmp_path)
    (shard,) = plan_shards(table, "", "parquet", 100)
    (batch, *_) = read_rows(table, shard, "")
    assert "shard" not in batch.schema.names
    assert set(table.open().schema.names) - set(batch.schema.names) == {"shard"}


@pytest.mark.parametrize(
    ("data", "suffix"),
    [(b"\xff\xd8\xff\xe0", "jpg"), (b"RIFF....WEBP", "webp"), (b"BM", "bmp"), (b"GIF89a", "gif"), (b"II*\0", "tif")],
)
def test_the_extension_is_that_of_the_bytes(data, suffix):
    assert suffix_of(data) == suffix


def test_bytes_that_curation_would_not_keep_are_named():
    with pytest.raises(RuntimeError, match="begins with"):
        suffix_of(b"<svg></svg>")
