"""A finished run judged: its page, what the terminal says of scores and router, and when there is nothing to do."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from mos.errors import UserError
from mos.evaluation.scores import Scores
from mos.sampling.trace import RouterTrace
from mos.shapes.checker import CategoryScore
from mos.shapes.scene import Category
from pipelines import evaluate, sample
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from tests.benchmarks.pipeline import demo_rows
from tests.pipelines.drawn_run import trained_run

ONCE = Namespace(force=False, named=True)


@pytest.mark.slow
def test_a_finished_run_is_sampled_and_reported(
    small_run: Callable[..., RunConfig], local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = trained_run(small_run)
    sample.main(Run(config), ONCE)
    drawn = Run(config).require("sample").outputs
    assert drawn["stage"] == "stage4"
    side = config.stage("stage4").resolution
    assert [Image.open(path).size for path in drawn["images"]] == [(side, side)] * 6
    told = json.loads(Path(drawn["images"][1]).with_suffix(".json").read_text(encoding="utf-8"))
    assert told["seed"] == 1
    assert told["sampler"]["steps"] == 2

    evaluate.main(Run(config), ONCE)
    outputs = Run(config).require("evaluate").outputs
    page = Path(outputs["report"]).read_text(encoding="utf-8")
    assert told["prompt"] in page
    assert "Left out" not in page
    assert outputs["scores"]["categories"]["single_object"]["num"] == 3
    with pytest.raises(UserError, match="single_object_prompts=64"):
        demo_rows(Run(config))

    capsys.readouterr()
    sample.main(Run(config), ONCE)
    evaluate.main(Run(config), ONCE)
    said = capsys.readouterr().out
    assert "sample: already finished" in said
    assert "evaluate: already finished" in said


def test_a_report_that_stands_is_not_made_again_and_one_that_is_gone_is(
    small_run: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trained_run(small_run)
    Run(config).step("sample").finish({"images": []})
    Run(config).step("evaluate").finish({})
    page = config.folder("report", "report.html")
    page.parent.mkdir()
    page.touch()
    monkeypatch.setenv("RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE", "1")  # no Ray begins, so nothing is drawn
    evaluate.main(Run(config), ONCE)
    assert f"evaluate: the report is {page}\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="unset it"):
        evaluate.main(Run(config), Namespace(force=True, named=True))
    page.unlink()
    with pytest.raises(UserError, match="unset it"):
        evaluate.main(Run(config), ONCE)
    assert "evaluate: judging stage4\n" in capsys.readouterr().out


def test_scores_are_told_category_by_category(capsys: pytest.CaptureFixture[str]) -> None:
    lone = CategoryScore(num=4, correct=0.5, count=1.0, shape=0.75, colour=0.25, position=None)
    two = CategoryScore(num=2, correct=1.0, count=1.0, shape=1.0, colour=None, position=None)
    evaluate.print_scores(Scores({Category.SINGLE_OBJECT: lone, Category.TWO_OBJECT: two}, ()))
    assert capsys.readouterr().out.splitlines() == [
        "evaluate: single_object  right 0.50 ± 0.35  shape 0.75  colour 0.25  (4 prompts)",
        "evaluate: two_object     right 1.00 ± 0.33  shape 1.00  colour    -  (2 prompts)",
        "evaluate: overall        right 0.75 ± 0.24 (± is half the 95% interval)",
    ]
    evaluate.print_scores(None)
    assert "no scores, they need the demo's drawn scenes" in capsys.readouterr().out


def test_a_router_that_chooses_nothing_is_told_with_what_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    level = torch.full((2, 3, 4, 2), 0.25)
    one = torch.zeros(2, 3, 4, 2)
    one[:, :, 1] = 1
    for weights, spread, is_level in ((level, "1.000", True), (one, "0.000", False)):
        trace = RouterTrace(weights, weights > 0.5, torch.tensor([1.0, 0.5]), ("a", "b", "c"), (1, 2, 3, 4))
        evaluate.print_router(trace)
        said = capsys.readouterr().out
        assert f"spread over the layers is {spread} (1 = all alike)" in said
        assert ("weighs its 4 layers alike" in said) == is_level
        assert ("router.epsilon" in said) == is_level
