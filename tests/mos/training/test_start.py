"""Settings of a stage's start: what they name, and what identifies it."""

import shutil
from pathlib import Path

import pytest

from mos.checkpoints import SHAPES
from mos.errors import UserError
from mos.identity import numbers_of
from mos.training.stage import StageConfig
from mos.training.start import GivenWeights, PreviousStage


def test_an_export_is_known_by_its_weights_wherever_it_stands(tmp_path: Path):
    here, there = GivenWeights(path=str(SHAPES)), GivenWeights(path=str(tmp_path / "moved"))
    shutil.copytree(SHAPES, there.folder)
    assert not there.is_checkpoint
    assert there.identity() == here.identity()
    assert numbers_of(there) == numbers_of(here)
    with (there.folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert there.identity() != here.identity()


def test_what_is_taken_changes_the_numbers():
    given = GivenWeights(path="x")
    assert numbers_of(GivenWeights(path="x", average=False)) != numbers_of(given)
    assert numbers_of(GivenWeights(path="x", partial=True)) != numbers_of(given)


def test_a_relative_path_stands_in_the_checkout(clone: Path):
    assert GivenWeights(path="runs/a/export").folder == clone / "runs/a/export"


def test_a_folder_of_something_else_is_named(tmp_path: Path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"holds neither an export \(model_index.json, .*\) nor a checkpoint"):
        GivenWeights(path=str(tmp_path)).identity()


def test_a_stage_starts_from_the_one_before_unless_it_says_otherwise():
    assert StageConfig(resolution=16, steps=1, batch_size=1).start == PreviousStage()
