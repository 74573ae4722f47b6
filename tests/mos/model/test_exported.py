"""Both layouts of an export are known by their files."""

import json
from pathlib import Path

import pytest

from mos.model.exported import SHARDS, WEIGHTS, is_export, is_pipeline, layout_of, model_tree, weight_files

MODEL = {"dim": 8, "patch": 2}


def written(folder: Path) -> Path:
    for name, content in layout_of({"model": MODEL, "run": {"resolution": 16}}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


def test_an_export_is_complete_with_its_weights(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert is_pipeline(folder)
    assert not is_export(folder)
    (folder / WEIGHTS).touch()
    assert is_export(folder)
    assert weight_files(folder) == [folder / WEIGHTS]
    assert model_tree(folder) == MODEL


def test_an_older_export_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model": MODEL}))
    assert not is_pipeline(tmp_path)
    assert not is_export(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert is_export(tmp_path)
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]
    assert model_tree(tmp_path) == MODEL
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(KeyError):
        model_tree(tmp_path)


def test_shards_are_those_of_their_index(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / SHARDS).write_text(
        json.dumps({"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "../../x"}})
    )
    assert is_export(folder)
    names = [path.relative_to(folder / "transformer").name for path in weight_files(folder)]
    assert sorted(names) == ["1.safetensors", "2.safetensors", "x"], "none leads out of the folder"
    (folder / SHARDS).write_text("{}")
    with pytest.raises(ValueError, match="has no weight_map"):
        weight_files(folder)
