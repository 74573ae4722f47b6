"""Seeded scenes: category in, objects with non-overlapping places and sizes out.

Everything is drawn from `random.Random(<text>)`, whose stream is fixed by the text alone on every platform, so scene
`index` of a seed is the same whatever was drawn before it.
"""

import random
from collections.abc import Mapping

from mos.shapes.scene import Background, Category, Colour, Scene, SceneObject, Shape

CATEGORY_WEIGHTS: Mapping[Category, float] = {
    Category.SINGLE_OBJECT: 0.40,
    Category.COLORS: 0.15,
    Category.TWO_OBJECT: 0.10,
    Category.COUNTING: 0.12,
    Category.POSITION: 0.10,
    Category.COLOR_ATTR: 0.13,
}
"""Share of each category; single objects lead because colour and shape are learned from them first."""

HELD_OUT = frozenset(
    {
        (Shape.CIRCLE, Colour.PURPLE),
        (Shape.SQUARE, Colour.CYAN),
        (Shape.TRIANGLE, Colour.ORANGE),
        (Shape.STAR, Colour.BLUE),
        (Shape.CROSS, Colour.GREEN),
        (Shape.RING, Colour.PINK),
    }
)
"""Shapes and colours that no training scene of different objects shows: a prompt with one of them beside another object
asks for what was only ever seen alone."""
MARGIN = 0.06
"""Free border, share of a side: survives the centre crop that fits a picture into its aspect bucket."""
LARGE = (0.60, 0.70)
"""Sizes of an object that stands alone."""
SMALL = (0.34, 0.37)
"""Sizes of an object that shares the picture; with NEAR and FAR two of them stay 0.1 of a side apart."""
NEAR, MIDDLE, FAR = 0.25, 0.5, 0.75
"""Where objects stand along an axis, give or take JITTER. There are few places, so that a small model spends itself on
what stands where: with places anywhere its loss ends twice as high, and its edges stay soft."""
JITTER = 0.005

Point = tuple[float, float]
ROW: list[Point] = [(NEAR, MIDDLE), (FAR, MIDDLE)]
COLUMN: list[Point] = [(MIDDLE, NEAR), (MIDDLE, FAR)]
"""Two objects, in the order in which a caption names them where it says no more: from the left, from the top."""
QUADRANTS: list[Point] = [(NEAR, NEAR), (FAR, NEAR), (NEAR, FAR), (FAR, FAR)]


def stream(seed: int, name: str, index: int = 0) -> random.Random:
    """The random numbers of one item; streams of different names never share a draw."""
    return random.Random(f"mos.shapes/{name}/{seed}/{index}")


def training_scene(seed: int, index: int, weights: Mapping[Category, float] = CATEGORY_WEIGHTS) -> Scene:
    """Scene `index` of the training stream of a seed; of those with two objects none is held out."""
    rng = stream(seed, "train", index)
    (category,) = rng.choices(list(weights), weights=list(weights.values()))
    scene = sample_scene(category, rng)
    while is_held_out(scene):
        scene = sample_scene(category, rng)
    return scene


def is_held_out(scene: Scene) -> bool:
    """True if a scene of different objects shows a shape in a colour that training keeps from such scenes."""
    kinds = {(item.shape, item.colour) for item in scene.objects}
    return len(kinds) > 1 and bool(kinds & HELD_OUT)


def sample_scene(category: Category, rng: random.Random) -> Scene:
    """A random scene of one category."""
    background = rng.choice(list(Background))
    match category:
        case Category.SINGLE_OBJECT | Category.COLORS:
            objects = [lone_object(rng.choice(list(Shape)), rng.choice(list(Colour)), rng)]
        case Category.COUNTING:
            objects = _alike(rng)
        case Category.TWO_OBJECT | Category.COLOR_ATTR:
            objects = different_pair(rng.choice([ROW, COLUMN]), rng)
        case Category.POSITION:
            objects = different_pair(rng.sample(rng.choice([ROW, COLUMN]), 2), rng)
    return Scene(category, background, tuple(objects))


def lone_object(shape: Shape, colour: Colour, rng: random.Random) -> SceneObject:
    """One large object in the middle."""
    return _object(shape, colour, (MIDDLE, MIDDLE), LARGE, rng)


def small_object(shape: Shape, colour: Colour, place: Point, rng: random.Random) -> SceneObject:
    """An object of the size that leaves room for others, at a given place."""
    return _object(shape, colour, place, SMALL, rng)


def _object(shape: Shape, colour: Colour, place: Point, sizes: tuple[float, float], rng: random.Random) -> SceneObject:
    x, y = (_draw(rng, centre - JITTER, centre + JITTER) for centre in place)
    return SceneObject(shape, colour, x, y, _draw(rng, *sizes))


def different_pair(places: list[Point], rng: random.Random) -> list[SceneObject]:
    """Two objects that differ in shape and in colour."""
    shapes, colours = rng.sample(list(Shape), 2), rng.sample(list(Colour), 2)
    return [small_object(*what, rng) for what in zip(shapes, colours, places, strict=True)]


def _alike(rng: random.Random) -> list[SceneObject]:
    """Two objects of one shape and colour, as any two stand, or three or four in quadrants of the picture.

    Another number is another figure: two in quadrants are told from three by a single place, and drawn as three.
    """
    shape, colour = rng.choice(list(Shape)), rng.choice(list(Colour))
    num = rng.randint(2, 4)
    places = rng.choice([ROW, COLUMN]) if num == 2 else rng.sample(QUADRANTS, num)
    return [small_object(shape, colour, place, rng) for place in places]


def _draw(rng: random.Random, low: float, high: float) -> float:
    """Three decimals, so that a scene reads well in JSON and survives it exactly."""
    return round(rng.uniform(low, high), 3)
