"""What a run says of its length before it begins."""

import pytest

from pipelines.cost.forecast import drawing_seconds, forecast, steps_left
from pipelines.run.steps import TRAINING, Run
from tests.pipelines.trained_run import encoded_run, stage


def test_all_is_left_of_a_new_run_and_nothing_of_a_finished_one(small_run):
    config = encoded_run(small_run, *stage("stage1"), without=("stage2", "stage3", "stage4", "edit"))
    assert steps_left(Run(config)) == ["stage1", "sample", "evaluate"]
    for name in ("stage1", "sample", "evaluate"):
        Run(config).step(name).finish({})
    assert steps_left(Run(config)) == []
    assert forecast(Run(config)) is None
    again = forecast(Run(config), again=True)
    assert again is not None
    assert again.training_s > 0


@pytest.mark.slow
def test_more_steps_take_longer_by_their_number(small_run):
    """The demo's own stages, unfinished: what is said grows with the steps that are left."""
    config = small_run("stage1.steps=1000", "stage2.steps=1000")
    expected = forecast(Run(config))
    assert expected is not None
    assert 0 < expected.training_s < expected.total_s
    assert str(expected).startswith("about ")
    assert "training steps" in str(expected)


def test_drawing_grows_with_the_pictures(small_run):
    seconds = dict.fromkeys(TRAINING, 0.3)
    left = [*TRAINING, "sample", "evaluate"]
    few = drawing_seconds(small_run("evaluate.prompts_per_category=0"), left, seconds)
    many = drawing_seconds(small_run("evaluate.prompts_per_category=20"), left, seconds)
    assert many > few > 0
    assert drawing_seconds(small_run(), ["sample"], {}) == 0
    edits_alone = small_run().model_copy(update=dict.fromkeys(("stage1", "stage2", "stage3", "stage4")))
    assert drawing_seconds(edits_alone, ["edit", "sample", "evaluate"], seconds) > 0
