"""Picture in, the coloured shapes seen in it out.

A picture is read as a plain background with ink of the palette laid over it. Each pixel is explained as
`background + opacity * (ink - background)` (a matte), which keeps soft edges, blur and faint colours readable;
objects are connected regions of enough opacity.

Dimension key
    height, width  pixels
    ink            the eight palette colours
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from mos.shapes.fit import fit_shape
from mos.shapes.scene import BACKGROUNDS, PALETTE, Background, Colour, Shape

MAX_PX = 128
"""Longer side at which a picture is read; larger ones are reduced, since no shape needs more."""
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
EDGE = 0.2
"""Width of the soft edge that belongs to a region, share of the root of its area."""


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


def detect(image: UInt8[np.ndarray, "height width 3"]) -> Detection:
    """Find the objects of a picture.

    Args:
        image: RGB, 0..255, of any size.
    """
    pixels = _within(image, MAX_PX).astype(np.float32)
    behind = np.median(_border(pixels), axis=0)
    contrast = pixels - behind  # height width 3
    opacity, error = _matte(contrast, behind)
    regions = _regions(contrast, opacity, error)
    areas = np.bincount(regions.ravel(), minlength=1)[1:]
    smallest = max(SPECK_OF_IMAGE * regions.size, SPECK_OF_LARGEST * areas.max(initial=0))
    order = sorted(np.flatnonzero(areas >= smallest) + 1, key=lambda region: -areas[region - 1])
    objects = tuple(_describe(opacity, error, regions, int(region)) for region in order)
    return Detection(_nearest_background(behind), objects)


def _within(image: UInt8[np.ndarray, "height width 3"], side: int) -> UInt8[np.ndarray, "small_height small_width 3"]:
    height, width = image.shape[:2]
    scale = max(height, width) / side
    if scale <= 1:
        return image
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _border(pixels: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "border 3"]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _nearest_background(colour: Float[np.ndarray, "3"]) -> Background:
    return min(BACKGROUNDS, key=lambda name: float(np.square(colour - BACKGROUNDS[name]).sum()))


def _matte(
    contrast: Float[np.ndarray, "height width 3"], behind: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "height width ink"], Float[np.ndarray, "height width ink"]]:
    """Opacity (0..1) of each ink that explains a contrast best, and the squared error that it leaves."""
    inks = np.asarray(list(PALETTE.values()), dtype=np.float32) - behind  # ink 3
    opacity = np.clip(contrast @ inks.T / np.square(inks).sum(axis=1), 0, 1)
    error = np.square(contrast[..., None, :] - opacity[..., None] * inks).sum(axis=-1)
    return opacity, error


def _regions(
    contrast: Float[np.ndarray, "height width 3"],
    opacity: Float[np.ndarray, "height width ink"],
    error: Float[np.ndarray, "height width ink"],
) -> Int[np.ndarray, "height width"]:
    """Number the connected regions of ink from 1; 0 is background."""
    from scipy import ndimage

    best = error.argmin(axis=-1)[..., None]
    strength = np.take_along_axis(opacity, best, axis=-1)[..., 0]  # height width
    residue = np.take_along_axis(error, best, axis=-1)[..., 0]  # height width
    inked = residue <= (1 - ALIKE**2) * np.square(contrast).sum(axis=-1)
    strength = np.where(inked, strength, 0)
    solid = strength > SOLID * max(float(np.quantile(strength, 0.98)), FAINTEST)
    regions, _ = ndimage.label(solid)
    return regions


def _describe(
    opacity: Float[np.ndarray, "height width ink"],
    error: Float[np.ndarray, "height width ink"],
    regions: Int[np.ndarray, "height width"],
    region: int,
) -> DetectedObject:
    """Name colour, shape and place of one region, soft edge included."""
    from scipy import ndimage

    inside = regions == region
    ink = int(error[inside].sum(axis=0).argmin())
    distance, nearest = ndimage.distance_transform_edt(regions == 0, return_indices=True)
    reach = max(1.5, EDGE * float(np.sqrt(inside.sum())))
    own = (regions[tuple(nearest)] == region) & (distance <= reach)
    alone = np.where(own, opacity[..., ink], 0)
    fit = fit_shape(alone, strength=float(np.quantile(alone[inside], 0.9)))
    height, width = alone.shape
    return DetectedObject(fit.shape, list(PALETTE)[ink], fit.x / width, fit.y / height, fit.size / min(height, width))
