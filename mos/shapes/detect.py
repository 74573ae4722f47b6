"""Picture in, the coloured shapes seen in it out.

A picture is read as a plain background with ink of the palette laid over it. Each pixel is explained as
`background + opacity * (ink - background)` (a matte), which keeps soft edges, blur and faint colours readable;
objects are connected regions of enough opacity; an object's shape is the one whose own rendering, at the same
area and centre of mass and with a little blur, leaves the smallest squared error. Area and centre of mass do not
change under blur, so blurry pictures are placed and scaled right.

Dimension key
    height, width  pixels
    ink            the eight palette colours
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from mos.shapes.render import coverage
from mos.shapes.scene import BACKGROUNDS, PALETTE, Background, Colour, Shape

SOLID = 0.5
"""Share of the strongest opacity in the picture from which a pixel belongs to an object."""
FAINTEST = 0.3
"""A picture whose strongest opacity stays below shows nothing."""
ALIKE = 0.87
"""Cosine between a pixel's difference from the background and the ink's, from which it is that ink."""
SPECK_OF_IMAGE = 0.006
"""Regions below this share of the picture are not objects: a third of the smallest star drawn."""
SPECK_OF_LARGEST = 0.12
"""Regions below this share of the largest are not objects: half of smallest star to largest square."""
BLURS = (0.0, 0.06, 0.12, 0.18)
"""Standard deviations tried, share of the object's size."""


@dataclass(frozen=True)
class DetectedObject:
    """One object as seen."""

    shape: Shape
    colour: Colour
    x: float
    """Centre of the bounding box, share of the width."""
    y: float
    """Centre of the bounding box, share of the height."""
    size: float
    """Side of the bounding box, share of the shorter side."""


@dataclass(frozen=True)
class Detection:
    """Everything seen in a picture; the largest object first."""

    background: Background
    objects: tuple[DetectedObject, ...]


@dataclass(frozen=True)
class _Body:
    """Where a shape's mass lies: area in bounding boxes and centre of mass relative to the box's centre."""

    area: float
    x: float
    y: float


@dataclass(frozen=True)
class _Fit:
    """A shape laid over an object, in pixels, and the squared error in opacity that it leaves."""

    error: float
    shape: Shape
    x: float
    y: float
    size: float


def detect(image: UInt8[np.ndarray, "height width 3"]) -> Detection:
    """Find the objects of a picture."""
    pixels = image.astype(np.float32)
    behind = np.median(_border(pixels), axis=0)
    contrast = pixels - behind  # height width 3
    regions = _regions(contrast, behind)
    areas = np.bincount(regions.ravel(), minlength=1)[1:]
    smallest = max(SPECK_OF_IMAGE * regions.size, SPECK_OF_LARGEST * areas.max(initial=0))
    order = sorted(np.flatnonzero(areas >= smallest) + 1, key=lambda region: -areas[region - 1])
    objects = tuple(_describe(contrast, behind, regions, int(region)) for region in order)
    return Detection(_nearest_background(behind), objects)


def _border(pixels: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "border 3"]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _nearest_background(colour: Float[np.ndarray, "3"]) -> Background:
    return min(BACKGROUNDS, key=lambda name: float(np.square(colour - BACKGROUNDS[name]).sum()))


def _matte(
    contrast: Float[np.ndarray, "*place 3"], behind: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "*place ink"], Float[np.ndarray, "*place ink"]]:
    """Opacity (0..1) of each ink that explains a contrast best, and the squared error that it leaves."""
    inks = np.asarray(list(PALETTE.values()), dtype=np.float32) - behind  # ink 3
    opacity = np.clip(contrast @ inks.T / np.square(inks).sum(axis=1), 0, 1)
    error = np.square(contrast[..., None, :] - opacity[..., None] * inks).sum(axis=-1)
    return opacity, error


def _regions(
    contrast: Float[np.ndarray, "height width 3"], behind: Float[np.ndarray, "3"]
) -> Int[np.ndarray, "height width"]:
    """Number the connected regions of ink from 1; 0 is background."""
    opacity, error = _matte(contrast, behind)
    best = error.argmin(axis=-1)[..., None]
    opacity = np.take_along_axis(opacity, best, axis=-1)[..., 0]
    error = np.take_along_axis(error, best, axis=-1)[..., 0]
    inked = error <= (1 - ALIKE**2) * np.square(contrast).sum(axis=-1)
    opacity = np.where(inked, opacity, 0)
    strongest = float(np.quantile(opacity, 0.98))
    solid: Bool[np.ndarray, "height width"] = opacity > SOLID * max(strongest, FAINTEST)
    regions, _ = ndimage.label(solid)
    return regions


def _describe(
    contrast: Float[np.ndarray, "height width 3"],
    behind: Float[np.ndarray, "3"],
    regions: Int[np.ndarray, "height width"],
    region: int,
) -> DetectedObject:
    """Name colour, shape and place of one region, soft edge included."""
    inside = regions == region
    _, error = _matte(contrast[inside].mean(axis=0), behind)
    ink = int(error.argmin())
    distance, nearest = ndimage.distance_transform_edt(regions == 0, return_indices=True)
    reach = max(1.5, 0.2 * float(np.sqrt(inside.sum())))
    own = (regions[tuple(nearest)] == region) & (distance <= reach)
    opacity = np.where(own, _matte(contrast, behind)[0][..., ink], 0)
    strength = float(np.quantile(opacity[inside], 0.9))
    # Faint ink and a small blurred shape look alike at their peak: fit both readings and keep the better one.
    fits = [_fit(opacity, strength), _fit(opacity, 1.0)] if strength < 0.95 else [_fit(opacity, 1.0)]
    best = min(fits, key=lambda fit: fit.error)
    height, width = opacity.shape
    return DetectedObject(
        best.shape, list(PALETTE)[ink], best.x / width, best.y / height, best.size / min(height, width)
    )


def _fit(opacity: Float[np.ndarray, "height width"], strength: float) -> _Fit:
    """The shape whose rendering in ink of a given strength (0..1) explains an object's opacity best."""
    area = float(opacity.sum())
    x = float((opacity.sum(axis=0) * _middles(opacity.shape[1])).sum()) / area
    y = float((opacity.sum(axis=1) * _middles(opacity.shape[0])).sum()) / area
    fits = []
    for shape in Shape:
        body = _body(shape)
        size = float(np.sqrt(area / strength / body.area))
        centre = (x - body.x * size, y - body.y * size)
        sharp = strength * coverage(shape, centre, size, opacity.shape)
        blurred = [ndimage.gaussian_filter(sharp, blur * size) if blur else sharp for blur in BLURS]
        error = min(float(np.square(picture - opacity).sum()) for picture in blurred)
        fits.append(_Fit(error, shape, *centre, size))
    return min(fits, key=lambda fit: fit.error)


@cache
def _body(shape: Shape) -> _Body:
    """Measured on a large rendering."""
    canvas, size = 256, 200.0
    mass = coverage(shape, (canvas / 2, canvas / 2), size, (canvas, canvas))
    offset = _middles(canvas) - canvas / 2
    moment = size * float(mass.sum())
    x, y = (float((mass.sum(axis=axis) * offset).sum()) / moment for axis in (0, 1))
    return _Body(float(mass.sum()) / size**2, x, y)


def _middles(num: int) -> Float[np.ndarray, "num"]:
    """Coordinates of pixel centres along a side."""
    return np.arange(num) + 0.5
