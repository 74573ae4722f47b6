"""Scenes of the demo: a few coloured shapes on a plain background, in one of GenEval's six categories."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Shape(StrEnum):
    """Upright shapes that stay apart at ten pixels across."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    CROSS = "cross"
    RING = "ring"


class Colour(StrEnum):
    """Colours of objects."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    GREEN = "green"
    CYAN = "cyan"
    BLUE = "blue"
    PURPLE = "purple"
    PINK = "pink"


class Background(StrEnum):
    """Neutral backgrounds, so that every object's colour stands out by its hue."""

    WHITE = "white"
    GREY = "grey"
    BLACK = "black"


PALETTE: dict[Colour, tuple[int, int, int]] = {
    Colour.RED: (222, 30, 34),
    Colour.ORANGE: (250, 132, 20),
    Colour.YELLOW: (250, 222, 30),
    Colour.GREEN: (34, 160, 66),
    Colour.CYAN: (40, 200, 216),
    Colour.BLUE: (34, 80, 222),
    Colour.PURPLE: (138, 44, 190),
    Colour.PINK: (252, 116, 190),
}
"""sRGB of each object colour, 0..255; 23 degrees of hue or more between any two."""

BACKGROUNDS: dict[Background, tuple[int, int, int]] = {
    Background.WHITE: (250, 250, 250),
    Background.GREY: (150, 152, 156),
    Background.BLACK: (22, 22, 26),
}
"""sRGB of each background, 0..255."""


class Category(StrEnum):
    """GenEval's six tags; the properties say what a caption of the category promises."""

    SINGLE_OBJECT = "single_object"
    TWO_OBJECT = "two_object"
    COUNTING = "counting"
    COLORS = "colors"
    POSITION = "position"
    COLOR_ATTR = "color_attr"

    @property
    def names_colour(self) -> bool:
        """True if the caption says what colour each object has; as in GenEval, two_object does not."""
        return self is not Category.TWO_OBJECT

    @property
    def names_background(self) -> bool:
        """True if the caption says what colour is behind the object."""
        return self is Category.COLORS


class Relation(StrEnum):
    """Place of a position scene's first object, as seen from the second."""

    LEFT = "left of"
    RIGHT = "right of"
    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True)
class SceneObject:
    """One shape; its caption names colour and shape, never place or size."""

    shape: Shape
    colour: Colour
    x: float
    """Centre, share of the image's width, 0 = left."""
    y: float
    """Centre, share of the image's height, 0 = top."""
    size: float
    """Side of the bounding box, share of the image's shorter side."""


@dataclass(frozen=True)
class Scene:
    """A picture before it has a size: objects that do not overlap in a square do not overlap at any aspect."""

    category: Category
    background: Background
    objects: tuple[SceneObject, ...]
    """In a position scene the first stands in the named relation to the second."""

    @property
    def relation(self) -> Relation:
        """Relation of the first object to the second, along the axis that separates them most."""
        first, second = self.objects[:2]
        dx, dy = first.x - second.x, first.y - second.y
        if abs(dx) > abs(dy):
            return Relation.LEFT if dx < 0 else Relation.RIGHT
        return Relation.ABOVE if dy < 0 else Relation.BELOW

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a JSON sidecar."""
        return asdict(self)
