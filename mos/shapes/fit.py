"""Opacity of one object in, the shape that explains it best out.

The shape is the one whose own rendering, at the same area and centre of mass and with a little blur, leaves the
smallest squared error. Area and centre of mass do not change under blur, so blurry objects are placed and scaled
right.

Dimension key
    height, width  pixels
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float

from mos.shapes.render import coverage
from mos.shapes.scene import Shape

BLURS = (0.06, 0.12, 0.18)
"""Standard deviations tried where no sharp shape explains an object, share of its size."""
EXPLAINED = 0.01
"""Squared error, share of the object's mass, below which no better explanation is looked for."""
FULL = 0.95
"""Strength from which ink is taken as full."""
PADDING = 0.25
"""Free border kept around an object, share of its longer side: room for templates larger than it."""


@dataclass(frozen=True)
class ShapeFit:
    """A shape laid over an object, in pixels."""

    error: float
    """Sum of squared differences of opacity."""
    shape: Shape
    x: float
    """Centre of the bounding box."""
    y: float
    """Centre of the bounding box."""
    size: float
    """Side of the bounding box."""


@dataclass(frozen=True)
class _Body:
    """Mass of a shape: area in bounding boxes and centre of mass relative to the box's centre."""

    area: float
    x: float
    y: float


def fit_shape(opacity: Float[np.ndarray, "height width"], strength: float) -> ShapeFit:
    """Name the shape of the one object in a picture and measure it.

    Args:
        opacity: 0..1; not 0 everywhere.
        strength: Opacity in the middle of the object, 0..1. Faint ink and a small blurred shape look alike there,
            so both readings are tried where it is not full.
    """
    rows, columns = (_span(np.any(opacity, axis=1 - axis)) for axis in (0, 1))
    crop = opacity[rows, columns]
    strengths = [1.0] if strength >= FULL else [1.0, strength]
    best = _best(crop, strengths, (0.0,))
    if best.error > EXPLAINED * float(crop.sum()):
        best = min(best, _best(crop, strengths, BLURS), key=lambda fit: fit.error)
    return ShapeFit(best.error, best.shape, best.x + columns.start, best.y + rows.start, best.size)


def _span(occupied: Bool[np.ndarray, " side"]) -> slice:
    """The part of a side that holds the object and some border."""
    (places,) = np.nonzero(occupied)
    padding = 2 + round(PADDING * len(places))
    return slice(max(0, int(places[0]) - padding), int(places[-1]) + 1 + padding)


def _best(opacity: Float[np.ndarray, "height width"], strengths: list[float], blurs: tuple[float, ...]) -> ShapeFit:
    fits = (_lay(opacity, shape, strength, blurs) for shape in Shape for strength in strengths)
    return min(fits, key=lambda fit: fit.error)


def _lay(
    opacity: Float[np.ndarray, "height width"], shape: Shape, strength: float, blurs: tuple[float, ...]
) -> ShapeFit:
    """Lay a shape over an object: same mass, same centre of mass, and the best of some blurs."""
    from scipy import ndimage

    mass = float(opacity.sum())
    height, width = opacity.shape
    body = _body(shape)
    size = float(np.sqrt(mass / strength / body.area))
    x = float((opacity.sum(axis=0) * _middles(width)).sum()) / mass - body.x * size
    y = float((opacity.sum(axis=1) * _middles(height)).sum()) / mass - body.y * size
    sharp = strength * coverage(shape, (x, y), size, (height, width))
    blurred = [ndimage.gaussian_filter(sharp, blur * size) if blur else sharp for blur in blurs]
    error = min(float(np.square(picture - opacity).sum()) for picture in blurred)
    return ShapeFit(error, shape, x, y, size)


@cache
def _body(shape: Shape) -> _Body:
    """Measured on a large rendering."""
    canvas, size = 256, 200.0
    mass = coverage(shape, (canvas / 2, canvas / 2), size, (canvas, canvas))
    offset = _middles(canvas) - canvas / 2
    moment = size * float(mass.sum())
    x, y = (float((mass.sum(axis=axis) * offset).sum()) / moment for axis in (0, 1))
    return _Body(float(mass.sum()) / size**2, x, y)


def _middles(num: int) -> Float[np.ndarray, " num"]:
    """Coordinates of pixel centres along a side."""
    return np.arange(num) + 0.5
