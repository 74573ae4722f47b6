import random
from collections import Counter
from itertools import combinations

import pytest

from mos.shapes.layout import HELD_OUT, MARGIN, is_held_out, sample_scene, stream, training_scene
from mos.shapes.scene import Category, Relation, Scene, Shape
from tests.mos.shapes.scenes import scene_from_dict

SCENES = {
    category: [sample_scene(category, random.Random(f"{category}{k}")) for k in range(200)] for category in Category
}


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    assert training_scene(3, 17) == training_scene(3, 17)
    assert training_scene(3, 17) != training_scene(3, 18)
    assert training_scene(3, 17) != training_scene(4, 17)


def test_streams_of_different_names_share_no_draw() -> None:
    assert stream(0, "train", 1).random() != stream(0, "evaluate", 1).random()


def test_categories_come_in_the_shares_asked_for() -> None:
    weights = {Category.COUNTING: 3.0, Category.POSITION: 1.0}
    counts = Counter(training_scene(0, index, weights).category for index in range(800))
    assert set(counts) == set(weights)
    assert counts[Category.COUNTING] / 800 == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize("category", Category)
def test_objects_stay_inside_the_margins_and_apart(category: Category) -> None:
    for scene in SCENES[category]:
        for item in scene.objects:
            for place in (item.x, item.y):
                assert place - item.size / 2 >= MARGIN - 0.01
                assert place + item.size / 2 <= 1 - MARGIN + 0.01
        for one, other in combinations(scene.objects, 2):
            gap = max(abs(one.x - other.x), abs(one.y - other.y)) - (one.size + other.size) / 2
            assert gap >= 0.1


@pytest.mark.parametrize("category", Category)
def test_a_scene_survives_json(category: Category) -> None:
    scene = SCENES[category][0]
    assert scene_from_dict(scene.as_dict()) == scene


def test_number_of_objects_fits_the_category() -> None:
    seen = {category: {len(scene.objects) for scene in scenes} for category, scenes in SCENES.items()}
    assert seen[Category.SINGLE_OBJECT] == seen[Category.COLORS] == {1}
    assert seen[Category.TWO_OBJECT] == seen[Category.POSITION] == seen[Category.COLOR_ATTR] == {2}
    assert seen[Category.COUNTING] == {2, 3, 4}


def test_counted_objects_are_alike_and_paired_ones_differ_in_both() -> None:
    for scene in SCENES[Category.COUNTING]:
        assert len({(item.shape, item.colour) for item in scene.objects}) == 1
    for category in (Category.TWO_OBJECT, Category.POSITION, Category.COLOR_ATTR):
        for scene in SCENES[category]:
            first, second = scene.objects
            assert first.shape != second.shape
            assert first.colour != second.colour


def test_every_relation_occurs_and_says_where_the_first_object_is() -> None:
    def holds(scene: Scene) -> bool:
        first, second = scene.objects
        return {
            Relation.LEFT: first.x < second.x - 0.3,
            Relation.RIGHT: first.x > second.x + 0.3,
            Relation.ABOVE: first.y < second.y - 0.3,
            Relation.BELOW: first.y > second.y + 0.3,
        }[scene.relation]

    scenes = SCENES[Category.POSITION]
    assert {scene.relation for scene in scenes} == set(Relation)
    assert all(holds(scene) for scene in scenes)


def test_two_objects_stand_in_a_row_or_a_column_and_are_named_in_reading_order() -> None:
    for category in (Category.TWO_OBJECT, Category.COLOR_ATTR):
        assert {scene.relation for scene in SCENES[category]} == {Relation.LEFT, Relation.ABOVE}
    for category in (Category.TWO_OBJECT, Category.COLOR_ATTR, Category.POSITION):
        for scene in SCENES[category]:
            along = scene.relation in (Relation.LEFT, Relation.RIGHT)
            for item in scene.objects:
                assert abs((item.y if along else item.x) - 0.5) <= 0.006
                assert min(abs((item.x if along else item.y) - place) for place in (0.25, 0.75)) <= 0.006


def test_held_out_combinations_are_drawn_alone_and_for_evaluation_alone_beside_others():
    scenes = [training_scene(0, index) for index in range(3000)]
    assert not any(is_held_out(scene) for scene in scenes)
    alone = {(scene.objects[0].shape, scene.objects[0].colour) for scene in scenes if len(scene.objects) == 1}
    assert alone >= HELD_OUT
    drawn = [sample_scene(Category.COLOR_ATTR, stream(0, "any", index)) for index in range(400)]
    assert 0.15 < sum(is_held_out(scene) for scene in drawn) / 400 < 0.35
    assert {shape for shape, _ in HELD_OUT} == set(Shape)
    assert len({colour for _, colour in HELD_OUT}) == len(HELD_OUT)


def test_objects_of_one_kind_are_never_held_out():
    scenes = [sample_scene(Category.COUNTING, stream(0, "any", index)) for index in range(200)]
    assert not any(is_held_out(scene) for scene in scenes)
