"""Picture and scene in, what is right out; the demo's counterpart of GenEval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import UInt8

from mos.shapes.detect import DetectedObject, detect
from mos.shapes.scene import Category, Relation, Scene, SceneObject

APART = 0.1
"""Share of the side by which centres must differ for one object to be left of, right of, above or below another."""


@dataclass(frozen=True)
class CheckResult:
    """Verdict on a picture of a scene; None where captions of the category promise nothing.

    Colours and shapes are each judged without the other: they compare the sets seen with the sets promised, over
    as many of the largest objects as were promised.
    """

    category: Category
    correct: bool
    """Everything that the caption promises, each colour on its own shape."""
    count_correct: bool
    """As many objects as promised, no more."""
    shape_correct: bool
    colour_correct: bool | None
    position_correct: bool | None
    """The named relation holds between two objects, each known by its colour or its shape."""
    background_correct: bool | None


@dataclass(frozen=True)
class CategoryScore:
    """Shares right over the pictures of one category, 0..1; None where its captions promise nothing."""

    num: int
    """Pictures."""
    correct: float
    count: float
    shape: float
    colour: float | None
    position: float | None


@dataclass(frozen=True)
class _Pair:
    """A promised object and the seen one that stands for it."""

    promised: SceneObject
    seen: DetectedObject

    @property
    def shape(self) -> bool:
        return self.promised.shape == self.seen.shape

    @property
    def colour(self) -> bool:
        return self.promised.colour == self.seen.colour


def check(image: UInt8[np.ndarray, "height width 3"], scene: Scene) -> CheckResult:
    """Compare a picture with what the caption of a scene promises.

    Args:
        image: RGB, 0..255, of any size.
        scene: Places and sizes are ignored, save for the relation of a position scene.
    """
    seen = detect(image)
    category, promised = scene.category, scene.objects
    main = seen.objects[: len(promised)]
    count = len(seen.objects) == len(promised)
    pairs = _pairing(promised, main)
    named = count and all(pair.shape and (pair.colour or not category.names_colour) for pair in pairs)
    position = _relation_holds(scene.relation, pairs) if category is Category.POSITION else None
    background = seen.background == scene.background if category.names_background else None
    return CheckResult(
        category=category,
        correct=named and position in (None, True) and background in (None, True),
        count_correct=count,
        shape_correct={item.shape for item in promised} == {item.shape for item in main},
        colour_correct={item.colour for item in promised} == {item.colour for item in main}
        if category.names_colour
        else None,
        position_correct=position,
        background_correct=background,
    )


def score_images(
    images: Sequence[UInt8[np.ndarray, "height width 3"]], scenes: Sequence[Scene]
) -> dict[Category, CategoryScore]:
    """Check picture by picture and take the mean of each category that occurs, in GenEval's order.

    Raises:
        ValueError: there are not as many pictures as scenes.
    """
    return score_results([check(image, scene) for image, scene in zip(images, scenes, strict=True)])


def score_results(results: Sequence[CheckResult]) -> dict[Category, CategoryScore]:
    """The mean of each category that occurs, in GenEval's order."""
    by_category: Mapping[Category, list[CheckResult]] = {
        category: [result for result in results if result.category is category] for category in Category
    }
    return {category: _score(group) for category, group in by_category.items() if group}


def _pairing(promised: Sequence[SceneObject], seen: Sequence[DetectedObject]) -> list[_Pair]:
    """Match objects so that most shapes and colours agree."""
    few, many = sorted((len(promised), len(seen)))
    if few < many:
        promised = promised[:few]
    options = [
        [_Pair(*both) for both in zip(promised, order, strict=True)] for order in permutations(seen, len(promised))
    ]
    return max(options, key=lambda pairs: sum(pair.shape + pair.colour for pair in pairs))


def _relation_holds(relation: Relation, pairs: Sequence[_Pair]) -> bool:
    if len(pairs) < 2 or not all(pair.shape or pair.colour for pair in pairs):
        return False
    first, second = pairs[0].seen, pairs[1].seen
    match relation:
        case Relation.LEFT:
            return first.x < second.x - APART
        case Relation.RIGHT:
            return first.x > second.x + APART
        case Relation.ABOVE:
            return first.y < second.y - APART
        case Relation.BELOW:
            return first.y > second.y + APART


def _score(results: Sequence[CheckResult]) -> CategoryScore:
    return CategoryScore(
        num=len(results),
        correct=float(np.mean([result.correct for result in results])),
        count=float(np.mean([result.count_correct for result in results])),
        shape=float(np.mean([result.shape_correct for result in results])),
        colour=_mean([result.colour_correct for result in results]),
        position=_mean([result.position_correct for result in results]),
    )


def _mean(values: Sequence[bool | None]) -> float | None:
    """Share that is true, or None where a value is None: a category promises a thing always or never."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
