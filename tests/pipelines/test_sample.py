import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mos.checkpoints import SHAPES
from mos.errors import UserError
from mos.sampling.pipeline import MoSPipeline
from mos.sampling.recipe import read_recipe
from pipelines import sample
from pipelines.draw.requests import text_stage
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from tests.mos.sampling.tiny_export import run_of, save_export
from tests.pipelines.drawn_run import trained_run

ONCE = Namespace(force=False, named=True)


@pytest.mark.slow
def test_a_picture_is_edited_at_its_own_aspect(
    small_run: Callable[..., RunConfig], local_ray: None, tmp_path: Path
) -> None:
    source = tmp_path / "wide.png"
    Image.new("RGB", (200, 100), "red").save(source)
    config = trained_run(small_run, f"sample.source={source}", "sample.prompt=make it blue")
    sample.main(Run(config), ONCE)
    drawn = Run(config).require("sample").outputs
    assert drawn["stage"] == "edit"
    width, height = Image.open(drawn["images"][0]).size
    assert width > 1.5 * height


def test_the_last_finished_stage_draws(small_run: Callable[..., RunConfig]) -> None:
    config = trained_run(small_run, "sample.prompt=a ring", stages=("stage1", "stage2"))
    chosen, stage = sample.choose_stage(Run(config))
    assert stage == chosen.config.sample.stage == "stage2"
    assert text_stage(Run(config), "stage1") == "stage1"
    with pytest.raises(UserError, match=r"stage3.* is not finished"):
        text_stage(Run(config), "stage4")


def test_a_stage_of_text_alone_does_not_edit(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(source)
    config = trained_run(small_run, "sample.prompt=a", f"sample.source={source}", "sample.stage=stage1")
    with pytest.raises(UserError, match=r"stage1 is trained on text alone and cannot edit .*: leave sample.stage out"):
        sample.main(Run(config), ONCE)


def test_an_export_of_text_alone_does_not_edit(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(source)
    export = save_export(tmp_path / "export", run=run_of(16, ["generate"]))
    with pytest.raises(UserError, match="cannot edit a picture: load the `export` of an `edit` stage"):
        sample.main(Run(small_run(f"sample.export={export}", "sample.prompt=a", f"sample.source={source}")), ONCE)


def test_an_export_edits_at_the_aspect_of_the_source(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (90, 30)).save(source)
    export = save_export(tmp_path / "export")
    config = small_run(
        f"sample.export={export}", "sample.prompt=a", f"sample.source={source}", "sample.sampler.steps=1"
    )
    sample.main(Run(config), ONCE)
    (drawn,) = config.folder("images").glob("*/00000.png")
    assert (
        Image.open(drawn).size
        == MoSPipeline.from_pretrained(export)("a", image=source, num_inference_steps=1).images[0].size
        == (20, 12)
    )


def test_a_prompt_that_is_cut_is_told_of(
    small_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    lines = [f"{number} " + " ".join(["a red circle"] * 100) for number in range(7)]
    prompts.write_text("\n".join(["a ring", *lines]), encoding="utf-8")
    export = save_export(tmp_path / "export")
    sample.main(Run(small_run(f"sample.export={export}", f"sample.prompts={prompts}", "sample.sampler.steps=1")), ONCE)
    said = capsys.readouterr()
    assert said.out.count("sample: a prompt is longer than what the model reads: it is cut after") == 5
    assert "sample: the same goes for 2 more prompts" in said.out
    assert said.err == ""


def test_a_picture_draws_itself_again(
    small_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, moved = tmp_path / "a.png", tmp_path / "moved.png"
    Image.new("RGB", (90, 30)).save(source)
    export = save_export(tmp_path / "export")
    settings = ("sample.sampler.steps=2", "sample.sampler.guidance=3", "sample.negative_prompt=a star", "seed=7")
    config = small_run(f"sample.export={export}", "sample.prompt=a", f"sample.source={source}", *settings)
    sample.main(Run(config), ONCE)
    (drawn,) = config.folder("images").glob("*/00000.png")
    assert read_recipe(drawn).seed == 7
    capsys.readouterr()
    sample.main(Run(small_run(f"sample.prompt={drawn}")), ONCE)
    assert f"sample: equal to {drawn}" in capsys.readouterr().out
    shutil.copy(drawn, moved)
    with pytest.raises(UserError, match=r"drawn by model \w{12}, which is not here: name its export= folder"):
        sample.main(Run(small_run(f"sample.prompt={moved}")), ONCE)
    with pytest.raises(UserError, match="is an edit of a picture that is not here: name it with source="):
        sample.main(Run(small_run(f"sample.prompt={moved}", f"sample.export={export}")), ONCE)
    sample.main(Run(small_run(f"sample.prompt={moved}", f"sample.export={export}", f"sample.source={source}")), ONCE)
    assert f"sample: equal to {moved}" in capsys.readouterr().out


def test_rows_of_a_file_have_settings_of_their_own(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    rows = tmp_path / "prompts.csv"
    rows.write_text("prompt,seed,width,guidance,negative_prompt\na ring,5,24,1,\na star,,,,a ring\na ring,5,24,3,\n")
    export = save_export(tmp_path / "export")
    config = small_run(f"sample.export={export}", f"sample.prompts={rows}", "sample.sampler.steps=2", "seed=40")
    sample.main(Run(config), ONCE)
    (folder,) = config.folder("images").iterdir()
    found = [read_recipe(folder / f"0000{number}.png") for number in range(3)]
    assert [(recipe.seed, recipe.width, recipe.sampler.guidance, recipe.negative_prompt) for recipe in found] == [
        (5, 24, 1.0, ""),
        (41, 16, config.sample.sampler.guidance, "a ring"),
        (5, 24, 3.0, ""),
    ]
    assert [Image.open(folder / f"0000{number}.png").size for number in range(3)] == [(24, 16), (16, 16), (24, 16)]


def test_without_any_stage_the_remedy_is_named(small_run: Callable[..., RunConfig]) -> None:
    with pytest.raises(UserError, match=r"run `python pipelines/stage1.py` first"):
        sample.main(Run(small_run()), ONCE)


def test_before_any_training_the_shipped_model_draws(
    small_run: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_run("sample.prompt=a red circle", "sample.images_per_prompt=2", "sample.sampler.steps=2")
    sample.main(Run(config), Namespace(force=False, named=False))
    said = capsys.readouterr().out
    assert "the one that ships draws" in said
    folder = Path(said.split("pictures are in ")[1].split(",")[0])
    assert [Image.open(folder / f"0000{i}.png").size for i in range(2)] == [(64, 64)] * 2
    assert json.loads((folder / "00001.json").read_text(encoding="utf-8"))["seed"] == config.seed + 1


def test_an_export_is_named_instead_of_a_stage(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name one of them"):
        sample.main(Run(small_run(f"sample.export={SHAPES}", "sample.stage=stage1")), ONCE)
    with pytest.raises(UserError, match="holds no exported model"):
        sample.main(Run(small_run(f"sample.export={tmp_path}")), ONCE)
    with pytest.raises(UserError, match="width = 40 is not a multiple"):
        sample.main(Run(small_run(f"sample.export={SHAPES}", "sample.width=40")), ONCE)


def test_a_prompt_file_that_changed_is_another_step(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    rows = tmp_path / "prompts.txt"
    rows.write_text("a ring\n")
    config = trained_run(small_run, f"sample.prompts={rows}")
    before = Run(config).step("sample").fingerprint
    assert Run(config).step("sample").fingerprint == before
    rows.write_text("a star\n")
    assert Run(config).step("sample").fingerprint != before
