import pytest

from mos.evaluation.cases import drawn_edits, scored_prompts
from mos.evaluation.scores import edit_is_correct, interval, margin, score_edits, score_pictures, with_margin
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


def test_a_share_is_told_with_wilsons_interval() -> None:
    """Of 64 pictures, by hand: centre (x + z²/2) / (n + z²), half width z / (n + z²) * sqrt(x (n - x) / n + z²/4)."""
    low, high = interval(0.5, 64)
    assert (low, high) == pytest.approx((0.5 - 0.11898, 0.5 + 0.11898), abs=1e-4)
    assert interval(0.0, 64)[0] == 0.0
    assert interval(0.0, 64)[1] == pytest.approx(0.0566, abs=1e-4)
    assert margin(0.72, 256) < margin(0.72, 64)
    assert with_margin(0.72, 256) == "0.72 ± 0.05"


def test_the_margin_of_the_mean_is_that_of_independent_categories() -> None:
    prompts = scored_prompts(num_single_object=16, num_per_category=16, seed=3)
    scores = score_pictures([ground_truth(prompt) for prompt in prompts], prompts)
    alike = [margin(score.correct, score.num) for score in scores.categories.values()]
    assert scores.overall_margin == pytest.approx(sum(one**2 for one in alike) ** 0.5 / 6)
    assert scores.as_dict()["categories"]["position"]["margin"] == alike[list(scores.categories).index("position")]


def test_a_done_edit_is_right_and_the_source_is_not() -> None:
    for case in drawn_edits(4, seed=0, resolution=64):
        assert edit_is_correct(case.target, case.edit)
        assert not edit_is_correct(case.source, case.edit)


def test_edits_are_scored_by_kind() -> None:
    cases = drawn_edits(8, seed=0, resolution=64)
    pictures = [case.target if number % 4 else case.source for number, case in enumerate(cases)]
    scores = score_edits(pictures, [case.edit for case in cases])
    assert [num for num, _ in scores.kinds.values()] == [2, 2, 2, 2]
    assert [right for _, right in scores.kinds.values()] == [0.0, 1.0, 1.0, 1.0]
    assert scores.overall == (8, 0.75)
    assert scores.as_dict()["recolour"] == {"num": 2, "correct": 0.0, "margin": margin(0.0, 2)}


def test_combinations_that_training_never_showed_are_told_apart() -> None:
    prompts = scored_prompts(num_single_object=0, num_per_category=24, seed=0)
    pictures = [ground_truth(prompt) for prompt in prompts]
    scores = score_pictures(pictures, prompts)
    assert scores.unseen is not None
    num, right = scores.unseen
    assert 4 <= num <= 24
    assert right == pytest.approx(1.0, abs=0.1)
    assert scores.as_dict()["unseen_combinations"]["num"] == num
    assert score_pictures(pictures[:24], prompts[:24]).unseen is None
