"""Exports are read as they were written, or refused in one sentence that names the file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mos.checkpoints import SHAPES
from mos.encoders.understanding import MiniLMConfig
from mos.encoders.vae import PixelConfig
from mos.errors import UserError
from mos.sampling.export import WHY, ExportConfig, read_export, read_export_config
from tests.mos.sampling.tiny_export import TINY, random_model, run_of, save_export


def test_an_export_is_the_model_that_was_saved(tmp_path: Path) -> None:
    export = read_export(save_export(tmp_path / "export", seed=3))
    assert export.config == ExportConfig(model=TINY, tower=MiniLMConfig(), vae=PixelConfig(), run=run_of(16))
    assert export.resolution == 16
    saved, read = random_model(seed=3).state_dict(), export.model.state_dict()
    assert saved.keys() == read.keys()
    assert all(torch.equal(read[name], weight) for name, weight in saved.items())


def test_weights_of_any_precision_are_read_in_float32(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    halves = {name: weight.bfloat16() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors")
    read = read_export(folder).model.state_dict()
    assert {weight.dtype for weight in read.values()} == {torch.float32}
    assert torch.equal(read["patch_in.weight"], halves["patch_in.weight"].float())


def test_the_shipped_model_is_read() -> None:
    config = read_export_config(SHAPES)
    assert (config.edits, config.bucket_aspect) == (True, 2.0)
    assert sum(weight.numel() for weight in read_export(SHAPES).model.state_dict().values()) > 1e6


@pytest.mark.parametrize(
    ("run", "edits", "aspect"),
    [
        (run_of(16), True, 2.0),
        (run_of(16, ["edit"]), True, 2.0),
        ({**run_of(16, ["generate"]), "bucket_aspect": 1}, False, 1.0),
        ({"resolution": 16}, False, 2.0),
    ],
)
def test_an_export_says_what_it_was_trained_on(run: dict, edits: bool, aspect: float) -> None:
    config = ExportConfig(model=TINY, tower=MiniLMConfig(), vae=PixelConfig(), run=run)
    assert (config.edits, config.bucket_aspect) == (edits, aspect)


@pytest.mark.parametrize("folder", [None, 3, ["a"]])
def test_an_export_is_a_folder(folder: object) -> None:
    with pytest.raises(UserError, match=r"export = .* is not a folder: name the `export` folder of a stage"):
        read_export(folder)


def test_a_folder_without_an_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path} holds no exported model"):
        read_export(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not the config of an exported model"),
        (b"\xff", "is not the config of an exported model"),
        (b"[]", "is not the config of an exported model"),
        (b"{}", "is not the config of an exported model"),
        (None, "does not say at which resolution"),
    ],
)
def test_a_damaged_config_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    folder = save_export(tmp_path / "export", run={})
    if content is not None:
        (folder / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=f"{folder}/config.json {message}"):
        read_export(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"resolution": True}, "does not say at which resolution"),
        ({"resolution": -4}, "does not say at which resolution"),
        ({"bucket_aspect": None}, "has run.bucket_aspect = None: set it to a number of at least 1"),
        ({"bucket_aspect": "wide"}, "has run.bucket_aspect = 'wide'"),
        ({"bucket_aspect": 0.5}, "has run.bucket_aspect = 0.5"),
        ({"config": None}, "has a run.config that is no stage's"),
        ({"config": {"tasks": None}}, "has a run.config that is no stage's"),
    ],
)
def test_a_damaged_run_is_named_before_it_is_used(tmp_path: Path, changed: dict, message: str) -> None:
    folder = save_export(tmp_path / "export", run={**run_of(16), **changed})
    with pytest.raises(UserError) as caught:
        read_export_config(folder)
    assert message in str(caught.value)


def test_a_config_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export", sampler={"steps": 20})
    with pytest.raises(UserError, match=r"is not the config of an exported model: .*sampler"):
        read_export_config(folder)


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    wider = TINY.model_copy(update={"state_dim": 512}).model_dump(mode="json")
    with pytest.raises(UserError, match=r"weights .* cannot be used .*: name another export") as caught:
        read_export(save_export(tmp_path / "export", model=wider))
    assert "\n" not in str(caught.value)
    why = str(caught.value).partition(" model (")[2].partition("…)")[0]
    assert (len(why), why[:9]) == (WHY, "Error(s) ")


@pytest.mark.parametrize("change", ["lost", "added"])
def test_weights_that_lack_one_or_have_one_too_many_are_refused(tmp_path: Path, change: str) -> None:
    folder = save_export(tmp_path / "export")
    weights = load_file(folder / "model.safetensors")
    if change == "lost":
        del weights["patch_in.weight"]
    else:
        weights["patch_in.scale"] = torch.ones(1)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"cannot be used by this version of the model \(.*patch_in"):
        read_export(folder)


@pytest.mark.parametrize("content", [b"not safetensors", b"", None])
def test_damaged_or_missing_weights_are_refused(tmp_path: Path, content: bytes | None) -> None:
    folder = save_export(tmp_path / "export")
    (folder / "model.safetensors").unlink()
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"weights of .*export cannot be used .* or train the stage again"):
        read_export(folder)


def test_an_export_whose_projections_have_no_bias_says_so(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"blocks.0.context.norm.weight": torch.ones(32)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="whose Proj_j had no bias"):
        read_export(folder)


def test_reading_the_config_alone_needs_no_weights(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    (folder / "model.safetensors").unlink()
    assert read_export_config(folder).model == TINY
    assert json.loads((folder / "config.json").read_text())["run"]["resolution"] == 16
