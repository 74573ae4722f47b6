"""Pictures in their three forms: PIL images, uint8 batches, PNG bytes."""

import io
from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mos.errors import UserError
from mos.images.buckets import Bucket, aspect_buckets, assign
from mos.images.pixels import fit_to_bucket
from mos.sampling.arguments import whole

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
"""Forms in which a pipeline gives pictures."""


def picture_size(height: int | None, width: int | None, resolution: int, token_px: int) -> tuple[int, int]:
    """(height, width) in pixels, the resolution where not given.

    Raises:
        UserError: a side is not a multiple of the token size; names the nearest that are.
    """
    return _side("height", height, resolution, token_px), _side("width", width, resolution, token_px)


def _side(name: str, given: int | None, resolution: int, token_px: int) -> int:
    side = whole(name, resolution if given is None else given, token_px)
    below = side // token_px * token_px
    if side != below:
        raise UserError(
            f"{name} = {side} is not a multiple of the token size, {token_px} px: use {below} or {below + token_px}"
        )
    return side


def bucket_size(picture: Image.Image, resolution: int, token_px: int, bucket_aspect: float) -> tuple[int, int]:
    """(height, width) in pixels of the training bucket nearest to a picture's aspect, whatever the picture's size.

    Args:
        picture: upright.
        resolution: side of the square bucket, px.
        token_px: side of a token, px.
        bucket_aspect: longest side over shortest side of a bucket.
    """
    buckets = aspect_buckets(resolution, token_px, bucket_aspect)
    bucket = assign(picture.width, picture.height, buckets, max_upscale=float("inf"))
    assert bucket is not None
    return bucket.height, bucket.width


def fit(images: Sequence[Image.Image], height: int, width: int) -> UInt8[Tensor, "batch 3 height width"]:
    """Scale upright pictures to cover a size in pixels and crop around the centre, as training did."""
    return torch.stack([fit_to_bucket(image, Bucket(height, width)) for image in images])


def to_images(pixels: UInt8[Tensor, "batch 3 height width"]) -> list[Image.Image]:
    """A batch as RGB pictures."""
    return [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def to_png(image: Image.Image) -> bytes:
    """Lossless bytes of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def from_png(data: bytes) -> Image.Image:
    """The picture in bytes that `to_png` made."""
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    image.load()
    return image
