from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mos.images.buckets import aspect_buckets
from mos.shapes.captions import Prompt, evaluation_prompts
from mos.shapes.checker import check, score_images
from mos.shapes.layout import NEAR
from mos.shapes.render import render
from mos.shapes.scene import Background, Category, Colour, Scene, SceneObject, Shape

SIZES = [(bucket.height, bucket.width) for side in (32, 48, 64) for bucket in aspect_buckets(side, 4, 2.0)]
SIZES += [(24, 40), (40, 24)]

STAR = SceneObject(Shape.STAR, Colour.RED, 0.26, 0.5, 0.38)
RING = SceneObject(Shape.RING, Colour.BLUE, 0.74, 0.5, 0.38)


def prompts_of_all(num: int, seed: int) -> list[Prompt]:
    return [prompt for category in Category for prompt in evaluation_prompts(category, num, seed)]


def draw(scene: Scene) -> np.ndarray:
    return render(scene, 32, 32)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_ground_truth_is_right_at_every_demo_size(size: tuple[int, int]) -> None:
    scenes = [scene for _, scene in prompts_of_all(10, seed=sum(size))]
    wrong = [scene for scene in scenes if not check(render(scene, *size), scene).correct]
    assert len(wrong) <= 0.01 * len(scenes), wrong


@pytest.mark.slow
@pytest.mark.parametrize("category", Category)
def test_ground_truth_is_right_in_every_category_and_shuffled_pairs_are_not(category: Category) -> None:
    scenes = [scene for _, scene in evaluation_prompts(category, 100, seed=1)]
    images = [draw(scene) for scene in scenes]
    right = score_images(images, scenes)[category]
    assert right.num == 100
    assert min(right.correct, right.shape, right.count) >= 0.99
    shuffled = score_images(images, scenes[71:] + scenes[:71])[category]
    # By chance: one of 48 objects, one of 15 pairs of shapes, or less.
    assert shuffled.correct <= 0.12
    match category:
        case Category.TWO_OBJECT:
            assert right.colour is shuffled.colour is None
        case Category.SINGLE_OBJECT | Category.COLORS | Category.COUNTING:
            assert right.colour is not None
            assert right.colour >= 0.99
            assert shuffled.colour == pytest.approx(1 / 8, abs=0.08)
            assert shuffled.shape == pytest.approx(1 / 6, abs=0.09)


@pytest.mark.slow
def test_soft_and_noisy_pictures_are_still_read() -> None:
    rng = np.random.default_rng(0)
    scenes = [scene for _, scene in prompts_of_all(20, seed=2)]
    sharp = [draw(scene).astype(float) for scene in scenes]
    soft = [ndimage.gaussian_filter(image, (0.8, 0.8, 0)) + rng.normal(0, 10, image.shape) for image in sharp]
    scores = score_images([np.clip(image, 0, 255).astype(np.uint8) for image in soft], scenes)
    for category, score in scores.items():
        assert score.correct >= 0.9, category
        assert score.colour is None or score.colour >= 0.95
    assert scores[Category.SINGLE_OBJECT].correct == 1


def test_colour_and_shape_are_judged_apart() -> None:
    scene = Scene(Category.SINGLE_OBJECT, Background.WHITE, (replace(STAR, x=0.5, size=0.5),))
    (item,) = scene.objects
    recoloured = check(draw(replace(scene, objects=(replace(item, colour=Colour.PINK),))), scene)
    assert (recoloured.shape_correct, recoloured.colour_correct, recoloured.correct) == (True, False, False)
    reshaped = check(draw(replace(scene, objects=(replace(item, shape=Shape.SQUARE),))), scene)
    assert (reshaped.shape_correct, reshaped.colour_correct, reshaped.correct) == (False, True, False)


def test_a_superfluous_object_spoils_the_count_alone() -> None:
    scene = Scene(Category.SINGLE_OBJECT, Background.WHITE, (STAR,))
    result = check(draw(replace(scene, objects=(STAR, replace(RING, size=0.2)))), scene)
    assert (result.count_correct, result.shape_correct, result.colour_correct) == (False, True, True)
    assert not result.correct


def test_swapped_colours_are_wrong_although_both_are_there() -> None:
    scene = Scene(Category.COLOR_ATTR, Background.BLACK, (STAR, RING))
    swapped = (replace(STAR, colour=Colour.BLUE), replace(RING, colour=Colour.RED))
    result = check(draw(replace(scene, objects=swapped)), scene)
    assert result.shape_correct
    assert result.colour_correct
    assert not result.correct


def test_two_objects_may_have_any_colour_and_any_place() -> None:
    scene = Scene(Category.TWO_OBJECT, Background.BLACK, (STAR, RING))
    shown = (replace(RING, x=STAR.x, colour=Colour.GREEN), replace(STAR, x=RING.x, colour=Colour.CYAN))
    result = check(draw(replace(scene, objects=shown)), scene)
    assert result.correct
    assert result.colour_correct is None


def test_a_relation_is_judged_by_where_the_named_objects_are() -> None:
    scene = Scene(Category.POSITION, Background.WHITE, (STAR, RING))
    assert check(draw(scene), scene).position_correct
    mirrored = replace(scene, objects=(replace(STAR, x=RING.x), replace(RING, x=STAR.x)))
    result = check(draw(mirrored), scene)
    assert result.position_correct is False
    assert result.correct is False
    lone = check(draw(replace(scene, objects=(STAR,))), scene)
    assert (lone.position_correct, lone.count_correct) == (False, False)


def test_a_named_background_counts() -> None:
    scene = Scene(Category.COLORS, Background.WHITE, (STAR,))
    assert check(draw(scene), scene).correct
    result = check(draw(replace(scene, background=Background.BLACK)), scene)
    assert (result.background_correct, result.colour_correct, result.correct) == (False, True, False)


def test_counting_needs_the_number() -> None:
    items = tuple(replace(STAR, x=x, y=y, size=0.34) for x in (NEAR, 1 - NEAR) for y in (NEAR, 1 - NEAR))
    scene = Scene(Category.COUNTING, Background.GREY, items)
    assert check(draw(scene), scene).correct
    fewer = check(draw(replace(scene, objects=items[:3])), scene)
    assert (fewer.count_correct, fewer.shape_correct, fewer.colour_correct) == (False, True, True)
    more = check(draw(scene), replace(scene, objects=items[:3]))
    assert not more.count_correct


@pytest.mark.parametrize("category", Category)
def test_an_empty_picture_is_wrong_in_everything(category: Category) -> None:
    blank = np.full((32, 32, 3), 250, dtype=np.uint8)
    result = check(blank, evaluation_prompts(category, 1, 0)[0].scene)
    verdicts = (result.correct, result.count_correct, result.shape_correct, result.colour_correct)
    assert not any(verdicts)
    assert not result.position_correct


def test_pictures_and_scenes_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        score_images([], [Scene(Category.SINGLE_OBJECT, Background.WHITE, (STAR,))])
