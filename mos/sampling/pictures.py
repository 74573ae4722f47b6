"""Pictures in their three forms: PIL images, uint8 batches, PNG bytes."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """Upright RGB picture of a size in pixels: scaled to cover it, cropped around the centre, transparency on white."""
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)


def to_tensor(images: Sequence[Image.Image]) -> UInt8[Tensor, "batch 3 height width"]:
    """RGB pictures of one size as a batch."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()


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
