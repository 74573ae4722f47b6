"""Pictures in their three forms: PIL images, uint8 batches, PNG bytes."""

import io
from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from mos.data.buckets import Bucket
from mos.data.pictures import fit_to_bucket
from mos.errors import UserError


def picture_size(height: int | None, width: int | None, resolution: int, token_px: int) -> tuple[int, int]:
    """(height, width) in pixels, the resolution where not given.

    Raises:
        UserError: a side is not a multiple of the token size; names the nearest that are.
    """
    sides = {"height": resolution if height is None else height, "width": resolution if width is None else width}
    for name, side in sides.items():
        below = side // token_px * token_px
        if side != below or side < 1:
            near = " or ".join(str(value) for value in (below, below + token_px) if value > 0)
            raise UserError(f"{name} = {side} is not a multiple of the token size, {token_px} px: use {near}")
    return sides["height"], sides["width"]


def upright(image: Image.Image) -> Image.Image:
    """An RGB picture as it is meant to be seen: EXIF orientation applied, transparency on white."""
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


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
