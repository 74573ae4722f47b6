import random
import re
from collections import Counter

import pytest

from mos.shapes.captions import caption_of, evaluation_prompts
from mos.shapes.layout import training_scene
from mos.shapes.scene import Background, Category, Colour, Relation, Scene, SceneObject, Shape

STAR = SceneObject(Shape.STAR, Colour.ORANGE, 0.26, 0.5, 0.35)
CROSS = SceneObject(Shape.CROSS, Colour.BLUE, 0.74, 0.5, 0.35)


@pytest.mark.parametrize(
    ("category", "objects", "expected"),
    [
        (Category.SINGLE_OBJECT, (STAR,), "an orange star"),
        (Category.COLORS, (CROSS,), "a blue cross on a grey background"),
        (Category.COUNTING, (CROSS, CROSS, CROSS), "three blue crosses"),
        (Category.POSITION, (STAR, CROSS), "an orange star left of a blue cross"),
        (Category.POSITION, (CROSS, STAR), "a blue cross right of an orange star"),
        (Category.TWO_OBJECT, (STAR, CROSS), "a star and a cross"),
        (Category.COLOR_ATTR, (STAR, CROSS), "an orange star and a blue cross"),
    ],
)
def test_captions_say_what_their_category_promises(
    category: Category, objects: tuple[SceneObject, ...], expected: str
) -> None:
    captions = {caption_of(Scene(category, Background.GREY, objects), random.Random(k)) for k in range(60)}
    assert {re.sub("^a (photo|picture) of ", "", caption) for caption in captions} == {expected}
    assert len(captions) == 3


def test_training_has_few_distinct_short_captions() -> None:
    captions = Counter(caption_of(training_scene(0, index), random.Random(index)) for index in range(5000))
    assert len(captions) < 2500
    assert max(len(caption.split()) for caption in captions) <= 13


@pytest.mark.parametrize("category", Category)
def test_prompts_are_reproducible_and_of_their_category(category: Category) -> None:
    prompts = evaluation_prompts(category, 20, seed=5)
    assert prompts == evaluation_prompts(str(category), 20, seed=5)
    assert prompts[:7] == evaluation_prompts(category, 7, seed=5)
    assert prompts != evaluation_prompts(category, 20, seed=6)
    assert {prompt.scene.category for prompt in prompts} == {category}


def test_single_object_prompts_cover_every_colour_of_every_shape_before_any_comes_again() -> None:
    scenes = [scene for _, scene in evaluation_prompts(Category.SINGLE_OBJECT, 96, seed=0)]
    counts = Counter((scene.objects[0].shape, scene.objects[0].colour) for scene in scenes)
    assert len(counts) == len(Shape) * len(Colour)
    assert set(counts.values()) == {2}


def test_position_prompts_use_every_relation() -> None:
    assert {prompt.scene.relation for prompt in evaluation_prompts(Category.POSITION, 40, 0)} == set(Relation)
