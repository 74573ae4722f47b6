"""What a report shows beside the judged pictures, from the records, metrics and pictures of a run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mos.evaluation.cases import EditCase, drawn_edits, shown_prompts
from mos.sampling.pictures import from_png
from pipelines.draw.report_inputs import (
    SHOWN_PX,
    edit_cases,
    edit_examples,
    edit_requests,
    gather_counts,
    gather_facts,
    gather_losses,
    judged_stages,
    sampled_pictures,
)
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from tests.mos.evaluation.stories import ground_truth
from tests.pipelines.drawn_run import trained_run

FIRST = "evaluate.stage=stage2"


@pytest.fixture
def trained(small_run: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """`trained("key=value", ...)`: a run whose training stages are finished."""
    return lambda *overrides: trained_run(small_run, *overrides)


def test_counts_and_buckets_are_those_of_curation(trained: Callable[..., RunConfig]) -> None:
    counts, buckets = gather_counts(Run(trained()))
    assert (counts.read, counts.kept, counts.rejected) == (9, 7, {"caption_empty": 2})
    assert buckets == {"32 px": {"32x32": 5, "24x44": 2}, "64 px": {"64x64": 4}}


def test_a_report_on_a_named_stage_ends_with_it(small_run: Callable[..., RunConfig]) -> None:
    assert judged_stages(small_run(FIRST)) == ("stage1", "stage2")
    assert judged_stages(small_run()) == ("stage1", "stage2", "stage3", "stage4", "edit")


def test_losses_are_those_of_every_stage_that_left_some(trained: Callable[..., RunConfig]) -> None:
    config = trained(FIRST)
    first, second = gather_losses(Run(config))
    assert (first.stage, second.stage) == ("stage1", "stage2")
    assert first.steps == (1, 2, 3)
    assert first.losses == pytest.approx((1, 1 / 2, 1 / 3))
    config.folder("checkpoints", "stage1", "metrics.jsonl").unlink()
    assert [curve.stage for curve in gather_losses(Run(config))] == ["stage2"]


def test_facts_are_of_what_is_covered(trained: Callable[..., RunConfig]) -> None:
    config = trained("stage1.steps=1000", "stage2.steps=550", "evaluate.sampler.guidance=3.5")
    facts = gather_facts(Run(config), "stage4")
    assert facts["model"] == "0.0 M parameters"
    assert facts["understanding tower"] == "minilm-0123456789ab, 6 layers"
    assert facts["codec"] == "pixel-0123456789ab, 12 channels, stride 2"
    assert facts["judged"] == f"stage4 at {config.stage('stage4').resolution} px"
    assert facts["training steps"] == f"{1550 + sum(config.stage(n).steps for n in ('stage3', 'stage4', 'edit')):,}"
    assert facts["guidance"] == "3.5, 2 steps"
    assert "streamed states" not in facts
    named = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"stage": "stage2"})})
    assert gather_facts(Run(named), "stage2")["training steps"] == "1,550"


def test_facts_tell_of_waits_and_of_the_time_that_was_taken(trained: Callable[..., RunConfig]) -> None:
    config = trained(FIRST)
    run = Run(config)
    step, record = run.step("stage2"), run.require("stage2")
    balance = {"trainer_stall": 0.204, "producer_idle": 0.05}
    replace(step, started_at=step.started_at - 720).finish(record.outputs | {"balance": balance})
    facts = gather_facts(Run(config), "stage2")
    assert facts["streamed states"] == "stage2: trainer waited 20%, producers idle 5%"
    assert facts["data and training took"] == "12.0 min"
    stage3 = run.step("stage3")
    replace(stage3, started_at=stage3.started_at - 720).finish(run.require("stage3").outputs)
    assert gather_facts(Run(config), "stage2")["data and training took"] == "12.0 min"


def test_sampled_pictures_are_checked_where_the_prompt_is_the_demos_own(
    trained: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = trained("sample.num_images=3", "seed=5")
    right, wrong, _ = shown_prompts(3, 5)
    drawings = [(right.text, ground_truth(right)), (wrong.text, ground_truth(right)), ("a cat", ground_truth(right))]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, (prompt, picture) in zip(paths, drawings, strict=True):
        picture.save(path)
        path.with_suffix(".json").write_text(json.dumps({"prompt": prompt}), encoding="utf-8")
    Run(config).step("sample").finish({"images": [str(path) for path in paths]})
    shown = sampled_pictures(Run(config))
    assert [(picture.prompt, picture.correct) for picture in shown] == [
        (right.text, True),
        (wrong.text, False),
        ("a cat", None),
    ]
    assert np.array_equal(np.asarray(shown[0].image), np.asarray(ground_truth(right)))
    named = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"stage": "stage1"})})
    assert sampled_pictures(Run(named)) == []


def test_edits_are_judged_once_the_editing_stage_is_covered(small_run: Callable[..., RunConfig]) -> None:
    assert edit_cases(Run(small_run(FIRST))) == []
    cases = edit_cases(Run(small_run("evaluate.num_edits=3", "evaluate.seed=4")))
    assert [case.instruction for case in cases] == [case.instruction for case in drawn_edits(3, 4, 32)]
    assert {case.source.size for case in cases} == {(32, 32)}


def test_an_edit_is_asked_for_in_the_bucket_of_its_source(small_run: Callable[..., RunConfig]) -> None:
    config = small_run("evaluate.seed=7")
    cases = [
        EditCase(Image.new("RGB", size, "red"), text, Image.new("RGB", size), None)
        for size, text in (((90, 90), "make it blue"), ((200, 100), "make it green"))
    ]
    square, wide = edit_requests(config, cases)
    assert (square.model, square.prompt, square.seed) == ("edit", "make it blue", 7)
    assert (wide.model, wide.prompt, wide.seed) == ("edit", "make it green", 8)
    assert (square.height, square.width) == (32, 32)
    assert wide.width >= 1.5 * wide.height
    assert from_png(wide.source).size == (200, 100)


def test_examples_are_small_enough_for_a_page_and_checked_where_they_can_be() -> None:
    [case] = drawn_edits(1, 0, 64)
    large = EditCase(Image.new("RGB", (2048, 1024)), "make it blue", Image.new("RGB", (300, 1024)), None)
    done, undone, unknown = edit_examples([case, case, large], [case.target, case.source, case.target])
    assert (done.correct, undone.correct, unknown.correct) == (True, False, None)
    assert (done.instruction, done.result) == (case.instruction, case.target)
    assert done.source.size == (64, 64)
    assert (unknown.source.size, unknown.target.size) == ((SHOWN_PX, SHOWN_PX // 2), (150, SHOWN_PX))
    assert large.source.size == (2048, 1024)
