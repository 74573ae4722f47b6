"""The checksums of a checkpoint's shards are those of the files, and a full disk is told from other errors."""

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from mos.training.checkpoint import storage_failure
from mos.training.checksums import Checksum
from mos.training.shard_writer import ShardWriter
from tests.mos.training.small_disk import fill, small_disk

SHARD, METADATA = "__0_0.distcp", ".metadata"


def written(folder: Path, state: dict) -> ShardWriter:
    writer = ShardWriter(folder)
    dcp.save(state, storage_writer=writer)
    return writer


@pytest.mark.parametrize("num_values", [0, 1, 100_000])
def test_every_file_has_the_checksum_of_its_bytes(group, tmp_path: Path, num_values: int):
    writer = written(tmp_path, {"weights": torch.arange(num_values), "step": 3, "name": "x"})
    assert writer.checksums == {path.name: Checksum.of(path.read_bytes()) for path in tmp_path.iterdir()}
    assert writer.checksums.keys() == {SHARD, METADATA}


def test_what_was_written_is_read_again(group, tmp_path: Path):
    state = {"weights": torch.randn(7, 5), "bfloat16": torch.randn(9).bfloat16(), "step": 3}
    written(tmp_path, state)
    read = {"weights": torch.zeros(7, 5), "bfloat16": torch.zeros(9).bfloat16(), "step": 0}
    dcp.load(read, checkpoint_id=tmp_path)
    assert torch.equal(read["weights"], state["weights"])
    assert torch.equal(read["bfloat16"], state["bfloat16"])
    assert read["step"] == 3


def test_a_writer_sums_its_own_files_alone(group, tmp_path: Path):
    first = written(tmp_path / "first", {"weights": torch.zeros(3)})
    second = written(tmp_path / "second", {"weights": torch.ones(3)})
    assert first.checksums[SHARD] != second.checksums[SHARD]
    assert second.checksums[SHARD].differs(tmp_path / "second" / SHARD) is None


@pytest.mark.parametrize("name", [SHARD, f"{METADATA}.tmp"])
def test_a_full_disk_is_an_error_of_the_disk(group, tmp_path: Path, name: str):
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(CheckpointException) as caught:
        written(tmp_path, {"weights": torch.zeros(3)})
    assert "No space left" in storage_failure(caught.value)


@pytest.mark.parametrize("leave", [0, 100_000])
def test_a_disk_that_fills_up_on_the_way_is_no_error_of_torch_save(group, tmp_path: Path, leave: int):
    with small_disk(tmp_path / "disk", 1) as folder:
        fill(folder, leave)
        with pytest.raises(CheckpointException) as caught:
            written(folder, {"weights": torch.zeros(100_000)})
    assert "No space left" in storage_failure(caught.value)
