"""Any slice of a weight is found in the files of a checkpoint, however they cut it."""

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from mos.training.pieces import Pieces

WEIGHT = torch.arange(20.0).view(5, 4)


@pytest.fixture(params=["whole", "cut"])
def folder(request: pytest.FixtureRequest, group, tmp_path: Path) -> Path:
    cut = {f"model.w@{start}": WEIGHT.flatten()[start:stop] for start, stop in ((0, 7), (7, 8), (8, 20))}
    state = {"model.w": WEIGHT} if request.param == "whole" else cut
    dcp.save(state | {"step": torch.tensor(3.0)}, checkpoint_id=tmp_path)
    return tmp_path


@pytest.mark.parametrize(("start", "stop"), [(0, 20), (0, 1), (6, 9), (7, 8), (13, 20), (5, 5)])
def test_a_slice_is_the_one_of_the_whole_weight(folder: Path, start: int, stop: int):
    found = Pieces(folder).read({"model.w": slice(start, stop), "step": slice(0, 1)})
    assert torch.equal(found["model.w"], WEIGHT.flatten()[start:stop])
    assert found["step"].tolist() == [3.0]


def test_what_is_there_is_known_without_reading_it(folder: Path):
    pieces = Pieces(folder)
    assert "model.w" in pieces
    assert "model.v" not in pieces
    assert pieces.are_flat == any("@" in key for key in pieces.reader.read_metadata().state_dict_metadata)


def test_numbers_that_no_file_has_are_an_error(folder: Path):
    pieces = Pieces(folder)
    with pytest.raises(CheckpointException, match="no numbers from 20 to 21"):
        pieces.read({"model.w": slice(10, 21)})
    with pytest.raises(CheckpointException, match=r"model.v has no numbers from 0 to 2"):
        pieces.read({"model.v": slice(0, 2)})


def test_a_folder_without_metadata_is_an_error(tmp_path: Path):
    with pytest.raises(CheckpointException, match="metadata"):
        Pieces(tmp_path)
