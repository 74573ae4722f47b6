import pytest

from mos.evaluation.cases import drawn_edits, scored_prompts
from mos.evaluation.scores import edit_is_correct, score_pictures
from mos.shapes.scene import Category
from tests.mos.evaluation.stories import ground_truth


def test_ground_truth_scores_one() -> None:
    prompts = scored_prompts(num_single_object=8, num_per_category=4, seed=3)
    scores = score_pictures([ground_truth(prompt) for prompt in prompts], prompts)
    assert scores.overall == pytest.approx(1.0, abs=0.05)
    assert scores.categories[Category.SINGLE_OBJECT].num == 8
    assert scores.categories[Category.POSITION].num == 4


def test_other_prompts_pictures_score_far_lower() -> None:
    prompts = scored_prompts(num_single_object=24, num_per_category=0, seed=3)
    pictures = [ground_truth(prompt) for prompt in prompts]
    assert score_pictures(pictures[1:] + pictures[:1], prompts).overall < 0.3


def test_scores_are_plain_data() -> None:
    prompts = scored_prompts(num_single_object=1, num_per_category=0, seed=0)
    scores = score_pictures([ground_truth(prompt) for prompt in prompts], prompts).as_dict()
    assert scores["categories"]["single_object"]["num"] == 1


def test_a_done_edit_is_right_and_the_source_is_not() -> None:
    for case in drawn_edits(4, seed=0, resolution=64):
        assert edit_is_correct(case.target, case.edit)
        assert not edit_is_correct(case.source, case.edit)
