"""Scene in, anti-aliased picture of any size out."""

import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from mos.shapes.scene import BACKGROUNDS, PALETTE, Scene, Shape

SUPERSAMPLE = 8
"""Subpixels along each side of a pixel up to LARGE_PX; four above, where edges are a smaller share of the shape."""
LARGE_PX = 64

Polygon = list[tuple[float, float]]


def render(scene: Scene, height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a scene.

    Args:
        scene: What to draw; later objects lie over earlier ones.
        height: Pixels.
        width: Pixels.
    """
    canvas = np.empty((height, width, 3), dtype=np.float32)
    canvas[:] = BACKGROUNDS[scene.background]
    side = min(height, width)
    for item in scene.objects:
        alpha = coverage(item.shape, (item.x * width, item.y * height), item.size * side, (height, width))
        ink = np.asarray(PALETTE[item.colour], dtype=np.float32)
        canvas += alpha[:, :, None] * (ink - canvas)
    return np.rint(canvas).astype(np.uint8)


def coverage(
    shape: Shape, centre: tuple[float, float], size: float, canvas: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """Share of every pixel that a shape covers, 0..1.

    Args:
        shape: What to draw.
        centre: Centre (x, y) of the bounding box in pixels, pixel corners at whole numbers.
        size: Side of the bounding box in pixels.
        canvas: (height, width) in pixels.
    """
    height, width = canvas
    fine = SUPERSAMPLE if max(canvas) <= LARGE_PX else SUPERSAMPLE // 2
    mask = Image.new("L", (width * fine, height * fine), 0)
    draw = ImageDraw.Draw(mask)
    x, y, side = centre[0] * fine - 0.5, centre[1] * fine - 0.5, size * fine
    match shape:
        case Shape.CIRCLE:
            _disc(draw, x, y, side / 2, fill=255)
        case Shape.RING:
            _disc(draw, x, y, side / 2, fill=255)
            _disc(draw, x, y, side * 0.26, fill=0)
        case _:
            draw.polygon([(x + side * px, y + side * py) for px, py in OUTLINES[shape]], fill=255)
    return np.asarray(mask.reduce(fine), dtype=np.float32) / 255


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: int) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _star() -> Polygon:
    """Five points, one up; fat enough to keep its notches at ten pixels."""
    radii = [0.53, 0.23]
    angles = [math.pi * (k / 5 - 0.5) for k in range(10)]
    return [(radii[k % 2] * math.cos(a), radii[k % 2] * math.sin(a) + 0.03) for k, a in enumerate(angles)]


def _cross(half: float = 0.48, arm: float = 0.165) -> Polygon:
    corner = [(-arm, -half), (arm, -half), (arm, -arm)]
    quarter_turns = []
    for _ in range(4):
        quarter_turns += corner
        corner = [(-y, x) for x, y in corner]
    return quarter_turns


OUTLINES: dict[Shape, Polygon] = {
    Shape.SQUARE: [(-0.44, -0.44), (0.44, -0.44), (0.44, 0.44), (-0.44, 0.44)],
    Shape.TRIANGLE: [(0.0, -0.48), (0.5, 0.44), (-0.5, 0.44)],
    Shape.STAR: _star(),
    Shape.CROSS: _cross(),
}
"""Corners of the straight-edged shapes around (0, 0), in bounding boxes of side 1; y grows downwards."""
