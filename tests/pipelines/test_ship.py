"""A checkpoint as the package carries it: small, readable, scored, and silent about the machine it came from."""

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mos.errors import UserError
from mos.evaluation.cases import scored_prompts
from mos.evaluation.scores import score_pictures
from mos.model.exported import INDEX, WEIGHTS
from mos.sampling.export import read_export
from pipelines import ship
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from tests.mos.evaluation.stories import ground_truth
from tests.mos.sampling.tiny_export import random_model, run_of, save_export
from tests.pipelines.drawn_run import trained_run
from tests.pipelines.tiny_run import tiny_config

SHORT = ("stage1.steps=1000", "stage1.batch_size=64", "stage1.resolution=32")


def test_a_finished_run_is_shipped_with_its_card(
    small_run: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ship, "CLONE", tmp_path / "clone")
    config = trained_run(small_run, stages=("stage1", "stage2"))
    about = Path(Run(config).require("stage2").outputs["export"]) / INDEX
    tree = json.loads(about.read_text(encoding="utf-8"))
    tree["run"] |= {"tower_id": "minilm-0123456789ab", "tables": {"samples": str(tmp_path)}}
    about.write_text(json.dumps(tree), encoding="utf-8")
    ship.main(Run(config), Namespace(codec=False))
    folder = tmp_path / "clone/mos/checkpoints/small"
    files = {path.name for path in folder.iterdir()}
    assert files == {INDEX, "transformer", "scheduler", "scores.json", "samples.png", "README.md"}
    assert read_export(folder).resolution == config.stage("stage2").resolution
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert scores["categories"]["single_object"]["num"] == 3
    assert all(score["num"] == 1 for name, score in scores["categories"].items() if name != "single_object")
    texts = [(folder / name).read_text(encoding="utf-8") for name in (INDEX, "scores.json", "README.md")]
    assert all(str(tmp_path) not in text for text in texts)
    assert "stage2" in texts[2]
    assert "stage3" not in texts[2]
    said = capsys.readouterr().out
    assert "ship: drawing 8 pictures to score\n" in said
    assert f"ship: {folder} is complete" in said


def test_a_codec_is_shipped_with_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "CLONE", tmp_path / "clone")
    (tmp_path / "pictures").mkdir()
    config = load_run(tiny_config(tmp_path, "codec={resolution=32, steps=3}"))
    trained = tmp_path / "trained"
    (trained / "export").mkdir(parents=True)
    for name in ("export/config.json", "export/weights.safetensors", "reconstructions.png"):
        (trained / name).touch()
    Run(config).step("curate").finish({})
    with pytest.raises(UserError, match=r"run `python pipelines/codec\.py"):
        ship.main(Run(config), Namespace(codec=True))
    figures = {"psnr_db": 34.0, "psnr_db_worst": 30.0, "pictures": 8, "num_params": 9000, "bytes": 2 * 2**20}
    outputs = {"export": str(trained / "export"), "folder": str(trained), **figures}
    Run(config).step("codec").finish({**outputs, "bytes": 2 * 2**20 + 1})
    with pytest.raises(
        UserError, match=r"the codec has 2\.0 MiB, one to ship has at most 2 MiB: .* smaller codec\.width"
    ):
        ship.main(Run(config), Namespace(codec=True))
    Run(config).step("codec").finish(outputs)
    ship.main(Run(config), Namespace(codec=True))
    folder = tmp_path / "clone/mos/checkpoints/codec"
    shipped = {path.name for path in folder.iterdir()}
    assert shipped == {"config.json", "weights.safetensors", "reconstructions.png", "README.md"}
    assert "| 34.0 |" in (folder / "README.md").read_text(encoding="utf-8")


def test_weights_are_shipped_in_half_and_the_config_without_places(tmp_path: Path) -> None:
    about = {**run_of(36), "bucket_aspect": 2.0, "seed": 3, "tables": {"samples": {"uri": "/home/me"}}, "extra": 1}
    export, folder = save_export(tmp_path / "export", run=about), tmp_path / "shipped"
    folder.mkdir()
    ship.write_weights(export, folder)
    weights, own = load_file(folder / WEIGHTS), random_model().state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name].bfloat16()) for name in own)
    assert (folder / WEIGHTS).stat().st_mode & 0o777 == 0o644
    shipped = read_export(folder)
    assert shipped.config.run == {name: value for name, value in about.items() if name not in ("tables", "extra")}
    assert shipped.config.model == read_export(export).config.model
    assert "/home/me" not in (folder / INDEX).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "part"), [("tower", {"type": "minilm"}), ("vae", {"type": "diffusers"})])
def test_a_tower_or_codec_of_this_machine_is_not_shipped(tmp_path: Path, name: str, part: dict[str, str]) -> None:
    export, folder = save_export(tmp_path / "export"), tmp_path / "shipped"
    folder.mkdir()
    config = json.loads((export / "config.json").read_text(encoding="utf-8"))
    (export / "config.json").write_text(json.dumps({**config, name: {**part, "path": str(tmp_path)}}), encoding="utf-8")
    with pytest.raises(UserError, match=rf"encode\.{name}\.path = {tmp_path} is a folder of this machine"):
        ship.write_weights(export, folder)


def test_weights_too_large_for_a_package_are_refused_with_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, folder = save_export(tmp_path / "export"), tmp_path / "shipped"
    folder.mkdir()
    size = 2 * sum(tensor.numel() for tensor in random_model().state_dict().values())
    monkeypatch.setattr(ship, "MOST_BYTES", size - 1)
    with pytest.raises(UserError, match=rf"{export} are {size / 2**20:.1f} MiB in bfloat16, .* a smaller dim or fewer"):
        ship.write_weights(export, folder)
    assert not list(folder.iterdir())
    monkeypatch.setattr(ship, "MOST_BYTES", size)
    ship.write_weights(export, folder)
    assert (folder / WEIGHTS).is_file()


def test_of_each_category_the_first_pictures_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = scored_prompts(num_single_object=8, num_per_category=2, seed=0)
    pictures = [ground_truth(prompt) for prompt in prompts]
    shown = []
    monkeypatch.setattr(ship, "figure_png", lambda draw, theme: shown.extend(draw.args[0]) or b"png")
    pictures[0] = pictures[-1]
    scores = score_pictures(pictures, prompts)
    results = scores.results
    ship.write_scores(tmp_path, prompts, pictures, scores, None)
    lone = [prompt.text for prompt in prompts if prompt.scene.category == "single_object"]
    others = [prompt.text for prompt in prompts if prompt.scene.category != "single_object"]
    assert [picture.prompt for picture in shown] == [*lone[:6], *others]
    assert [picture.correct for picture in shown] == [result.correct for result in results[:6] + results[8:]]
    assert [picture.correct for picture in shown][:2] == [False, True]
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(scores.as_dict())
    )


def test_hours_are_those_of_the_stages_up_to_the_one_that_ships(small_run: Callable[..., RunConfig]) -> None:
    config = trained_run(small_run, *SHORT).model_copy(update={"stage2": None})
    Run(config).step("encode").finish({})  # no other stage's samples
    run = Run(config)
    step = run.step("stage1")
    replace(step, started_at=step.started_at - 1800).finish({})
    [first] = ship.trained_stages(run, "stage1")
    assert (first.name, first.resolution, first.steps, first.batch_size) == ("stage1", 32, 1000, 64)
    assert first.hours == pytest.approx(0.5, abs=0.01)


def test_only_drawn_scenes_can_be_scored_and_shipped(small_run: Callable[..., RunConfig]) -> None:
    config = small_run().model_copy(update={"shapes": None})
    with pytest.raises(UserError, match=r"config 'small' has no \[shapes\] section"):
        ship.main(Run(config), Namespace(codec=False))
