"""A benchmark from its prompts to its table, as a user comes to it."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mos.benchmarks.config import BenchmarksConfig
from mos.errors import UserError
from pipelines import benchmark
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from tests.mos.benchmarks.places import lines
from tests.mos.benchmarks.test_gedit import dataset, row
from tests.mos.sampling.tiny_export import run_of, save_export
from tests.operators.tiny_clip import save_tiny_clip
from tests.pipelines.drawn_run import trained_run

ONCE = Namespace(force=False, named=True)
AGAIN = Namespace(force=True, named=True)


def metadata(folder: Path, num: int = 3) -> Path:
    path = folder / "evaluation_metadata.jsonl"
    tags = ("single_object", "counting")
    path.write_text(lines({"tag": tags[n % 2], "include": [], "prompt": f"a photo of {n} rings"} for n in range(num)))
    return path


def configured(small_run: Callable[..., RunConfig], *overrides: str) -> Run:
    return Run(small_run("benchmarks.sampler.steps=1", *(f"benchmarks.{override}" for override in overrides)))


@pytest.mark.slow
def test_geneval_is_drawn_once_scored_and_shown(
    local_ray: None, small_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    prompts, export = metadata(tmp_path), save_export(tmp_path / "export")
    settings = ("benchmark=geneval", f"prompts={prompts}", f"export={export}", "images_per_prompt=2")
    benchmark.main(configured(small_run, *settings, "first=2"), ONCE)
    said = capsys.readouterr().out
    assert "benchmark: 2 prompts, 4 pictures, 4 of them to be drawn" in said
    assert "these are the first prompts alone" in said
    (folder,) = (tmp_path / "run/benchmarks/geneval").iterdir()
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "about.json",
        *(f"images/0000{n}/{name}" for n in (0, 1)
          for name in ("grid.png", "metadata.jsonl", "samples/0000.png", "samples/0001.png")),
        "pictures.png",
    ]  # fmt: skip
    assert Image.open(folder / "images/00000/grid.png").size == (32, 16)
    kept = (folder / "images/00001/samples/0001.png").stat().st_mtime_ns

    clip = save_tiny_clip(tmp_path / "clip")
    benchmark.main(configured(small_run, *settings, f"clip={clip}"), ONCE)
    said = capsys.readouterr().out
    assert "benchmark: CLIP scores of 6 pictures are measured" in said
    assert "benchmark: 3 prompts, 6 pictures, 2 of them to be drawn" in said
    assert (folder / "images/00001/samples/0001.png").stat().st_mtime_ns == kept
    assert f"evaluate_images.py {folder}/images --outfile {folder}/results/results.jsonl" in said

    monkeypatch.setenv("RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE", "1")  # no Ray begins from here on
    judged = [
        {"tag": "counting", "metadata": "{}", "correct": True},
        {"tag": "counting", "metadata": "1", "correct": False},
    ]
    (folder / "results/results.jsonl").write_text(lines(judged))
    benchmark.main(configured(small_run, *settings, f"clip={clip}"), ONCE)
    said = capsys.readouterr().out
    assert "0 of them to be drawn" in said
    assert "MoS-L, 5B" in said
    assert "benchmark: 2 of 3 prompts are scored: run the scorer again for the others" in said
    assert json.loads((folder / "scores.json").read_text())["scores"]["counting"]["value"] == 0.5
    assert json.loads((folder / "scores.json").read_text())["scores"]["CLIP"]["num"] == 3
    assert "MoS-L, 5B" in (folder / "scores.html").read_text()
    with pytest.raises(UserError, match="unset it"):
        benchmark.main(configured(small_run, *settings), AGAIN)
    assert not (folder / "images/00001/samples/0001.png").exists()
    assert (folder / "results/results.jsonl").is_file()


@pytest.mark.slow
def test_edits_are_drawn_with_the_edit_stage_from_the_data_sets_pictures(
    local_ray: None, small_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = dataset(tmp_path, [row("a"), row("b"), row("c", instruction_language="cn")])
    config = trained_run(small_run, "benchmarks.sampler.steps=1", "benchmarks.benchmark=gedit",
                         f"benchmarks.prompts={path}", "benchmarks.model_name=ours")  # fmt: skip
    benchmark.main(Run(config), ONCE)
    assert "2 prompts, 2 pictures, 2 of them to be drawn" in capsys.readouterr().out
    (folder,) = config.folder("benchmarks", "gedit").iterdir()
    task = folder / "images/ours/fullset/style_change/en"
    assert sorted(found.name for found in task.iterdir()) == ["a.png", "a_SRCIMG.png", "b.png", "b_SRCIMG.png"]
    width, height = Image.open(task / "a.png").size
    assert width > height  # as the source
    benchmark.main(Run(config), ONCE)
    assert "0 of them to be drawn" in capsys.readouterr().out


def test_another_model_other_settings_or_other_prompts_stand_elsewhere(
    small_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    exports = [save_export(tmp_path / f"e{seed}", seed=seed) for seed in (0, 1)]
    same = save_export(tmp_path / "moved" / "e0", seed=0)
    prompts = metadata(tmp_path)

    def place(export: Path, *changes: str, seed: int = 0) -> Path:
        config = configured(small_run, "benchmark=geneval", f"prompts={prompts}", *changes).config
        config = config.model_copy(update={"seed": seed})
        return benchmark.laid_out(config, benchmark.chosen_benchmark(config), str(export))[0].folder

    first = place(exports[0])
    assert place(same) == place(exports[0], "first=1", "batch_size=2", "images_per_prompt=4", "side=16") == first
    others = {place(exports[1]), place(exports[0], seed=1), place(exports[0], "sampler.guidance=2"),
              place(exports[0], "images_per_prompt=2"), place(exports[0], "side=24")}  # fmt: skip
    prompts.write_text(prompts.read_text().replace("rings", "stars"))
    others.add(place(exports[0]))
    assert len({first, *others}) == 7


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ((), "no benchmark is named: say which, of geneval, dpg, wise, oneig, imgedit, gedit, mjhq"),
        (("benchmark=dpg",), r"DPG-Bench has no prompts: name them with prompts=, as dpg_bench/prompts of https"),
        (("benchmark=geneval", "prompts=gone.jsonl"), r"run `python pipelines/stage1\.py` first"),
        (("benchmark=geneval", "prompts=gone.jsonl", "export=a", "stage=stage1"), "name one of them"),
        (("benchmark=geneval", "prompts=gone.jsonl", "export={export}"), r"gone\.jsonl does not exist"),
        (
            ("benchmark=wise", "prompts=.", "export={export}", "images_per_prompt=2"),
            "more than the scorer of WISE reads: 1",
        ),
        (("benchmark=gedit", "prompts=.", "export={export}"), "GEdit-Bench edits pictures, and .* is not trained to"),
        (
            ("benchmark=geneval", "prompts=.", "export={export}", "model_name=a/b"),
            "model_name = 'a/b' becomes the name of a file",
        ),
    ],
)
def test_mistakes_end_in_a_sentence(
    small_run: Callable[..., RunConfig], tmp_path: Path, overrides: tuple[str, ...], sentence: str
) -> None:
    export = save_export(tmp_path / "export", run=run_of(16, ["generate"]))
    run = configured(small_run, *(override.format(export=export) for override in overrides))
    with pytest.raises(UserError, match=sentence):
        benchmark.main(run, ONCE)


def test_a_side_is_not_for_edits(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    export = save_export(tmp_path / "export")
    run = configured(small_run, "benchmark=gedit", "prompts=.", f"export={export}", "side=32")
    with pytest.raises(UserError, match="side = 32 is for pictures from text"):
        benchmark.main(run, ONCE)


def test_an_instruction_describes_no_picture(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    export = save_export(tmp_path / "export")
    run = configured(small_run, "benchmark=gedit", "prompts=.", f"export={export}", "clip=a")
    with pytest.raises(UserError, match="clip = 'a' is for pictures from text"):
        benchmark.main(run, ONCE)


def test_keys_stand_in_no_config() -> None:
    with pytest.raises(ValueError, match="key_variable"):
        BenchmarksConfig(judge={"key_variable": "sk-123"})
