"""Image size -> the shape it is trained in: aspect buckets of (nearly) equal area, sides multiples of a token."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Bucket:
    """One training shape, px."""

    height: int
    width: int

    def __str__(self) -> str:
        """`"<height>x<width>"`, as the tables write it."""
        return f"{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> "Bucket":
        """The bucket a table's `"<height>x<width>"` names."""
        height, width = text.split("x")
        return cls(int(height), int(width))

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height


def aspect_buckets(resolution: int, token_px: int, max_aspect: float = 2.0) -> tuple[Bucket, ...]:
    """The shapes of about `resolution`^2 pixels, tallest first; the square is always one of them.

    For each number of token rows the number of columns comes nearest to the square's token count, so areas differ
    by less than half a row or column of tokens.

    Args:
        resolution: side of the square bucket, px; a multiple of `token_px`.
        token_px: side of the square of pixels that becomes one token.
        max_aspect: longest allowed ratio of the longer to the shorter side, at least 1.

    Raises:
        ValueError: `resolution` is no multiple of `token_px`, or `max_aspect` is below 1.
    """
    if token_px < 1 or resolution < token_px or resolution % token_px:
        raise ValueError(f"resolution {resolution} is no multiple of token_px {token_px}")
    if max_aspect < 1:
        raise ValueError(f"max_aspect {max_aspect} is below 1")
    side = resolution // token_px
    shapes = set()
    for short in range(1, side + 1):
        long = round(side * side / short)
        if long <= max_aspect * short:
            shapes |= {(short, long), (long, short)}
    return tuple(Bucket(rows * token_px, columns * token_px) for rows, columns in sorted(shapes, reverse=True))


def assign(width: int, height: int, buckets: Sequence[Bucket], max_upscale: float = 1.0) -> Bucket | None:
    """The bucket nearest in log aspect, or None where filling it needs more enlargement than `max_upscale`.

    Args:
        width: image width, px, after EXIF orientation.
        height: image height, px.
        buckets: the shapes of one resolution, not empty.
        max_upscale: largest factor by which an image may be enlarged to cover its bucket.
    """
    aspect = math.log(width / height)
    best = min(buckets, key=lambda bucket: (abs(math.log(bucket.aspect) - aspect), bucket))
    scale = max(best.width / width, best.height / height)
    return best if scale <= max_upscale else None
