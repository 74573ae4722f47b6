"""What a run is judged on: held-out scenes, or rows of its own tables."""

from itertools import groupby
from pathlib import Path

import pytest

from mos.evaluation.cases import drawn_edits, scored_prompts, shown_prompts, stored_captions, stored_edits
from mos.images.decode import ImageLimits
from mos.shapes.edits import EditKind
from mos.shapes.scene import Category
from mos.tables.lance import TableVersion
from tests.samples import Pair, append_samples

WHITE, RED, BLUE, LIME, BLACK = (255, 255, 255), (255, 0, 0), (0, 0, 255), (0, 255, 0), (0, 0, 0)
PAIRS = [
    Pair("a star"),
    Pair("make it blue", "blue", reference="red"),
    Pair("a star", "blue"),
    Pair("a cross"),
    Pair("make it black", "black", reference="lime"),
    Pair("a ring"),
]
"""By their sample ids, which are hashes of their numbers: 4, 3, 0, 1, 2, 5."""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> TableVersion:
    return append_samples(tmp_path_factory.mktemp("samples"), PAIRS)


@pytest.mark.parametrize(("num_single", "num_others"), [(3, 2), (1, 4)])
def test_scored_prompts_stand_category_by_category(num_single: int, num_others: int) -> None:
    prompts = scored_prompts(num_single, num_others, seed=0)
    counts = [(category, len(list(group))) for category, group in groupby(prompts, lambda one: one.scene.category)]
    assert counts == [(one, num_single if one is Category.SINGLE_OBJECT else num_others) for one in Category]


def test_a_category_of_no_prompts_is_left_out() -> None:
    assert {prompt.scene.category for prompt in scored_prompts(2, 0, seed=0)} == {Category.SINGLE_OBJECT}
    assert scored_prompts(0, 0, seed=0) == []


def test_a_picture_of_each_category_stands_in_each_row() -> None:
    shown = shown_prompts(14, seed=0)
    assert len(shown) == 14
    assert [prompt.scene.category for prompt in shown] == [*Category, *Category, *list(Category)[:2]]


def test_a_larger_grid_begins_with_the_smaller_one_and_a_seed_has_its_own() -> None:
    assert shown_prompts(14, seed=0)[:5] == shown_prompts(5, seed=0)
    assert shown_prompts(14, seed=0) != shown_prompts(14, seed=1)


def test_stored_captions_are_distinct_without_edits_and_in_the_order_of_sample_ids(samples: TableVersion) -> None:
    assert stored_captions(samples, 2) == ["a cross", "a star"]
    assert stored_captions(samples, 9) == ["a cross", "a star", "a ring"]


def test_drawn_edits_are_squares_that_the_instruction_tells_apart() -> None:
    cases = drawn_edits(5, seed=0, resolution=24)
    assert [case.edit.kind for case in cases if case.edit is not None] == [*EditKind, next(iter(EditKind))]
    for case in cases:
        assert case.source.size == case.target.size == (24, 24)
        assert case.edit is not None
        assert case.instruction == case.edit.instruction
        assert case.source.tobytes() != case.target.tobytes()


def test_a_stored_edit_goes_from_its_reference_to_its_image(samples: TableVersion) -> None:
    (case,) = stored_edits(samples, 1, ImageLimits())
    assert (case.instruction, case.edit) == ("make it black", None)
    right, left = (48, 24), (8, 24)
    assert [case.source.getpixel(place) for place in (left, right)] == [WHITE, LIME]
    assert [case.target.getpixel(place) for place in (left, right)] == [WHITE, BLACK]


def test_every_stored_edit_keeps_its_own_pictures(samples: TableVersion) -> None:
    cases = {case.instruction: case for case in stored_edits(samples, 9, ImageLimits())}
    assert list(cases) == ["make it black", "make it blue"], "in the order of the sample ids"
    colours = {
        instruction: (case.source.getpixel((48, 24)), case.target.getpixel((48, 24)))
        for instruction, case in cases.items()
    }
    assert colours == {"make it black": (LIME, BLACK), "make it blue": (RED, BLUE)}


def test_a_table_without_edits_has_no_cases(tmp_path: Path) -> None:
    assert stored_edits(append_samples(tmp_path, [Pair("a star")]), 4, ImageLimits()) == []
