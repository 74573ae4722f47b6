"""A decoded picture in, the pixels of one bucket out."""

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mos.images.buckets import Bucket
from mos.images.decode import ImageLimits, decode_image


def prepare_image(data: bytes, bucket: str, limits: ImageLimits) -> UInt8[Tensor, "3 height width"]:
    """Decode encoded bytes and fit them to a bucket `HxW`: upright sRGB, transparency on white.

    Raises:
        Rejected: the bytes are no image within the limits.
    """
    return fit_to_bucket(decode_image(data, limits), Bucket.parse(bucket))


def fit_to_bucket(picture: Image.Image, bucket: Bucket) -> UInt8[Tensor, "3 height width"]:
    """Resize to cover the bucket and cut the overhang off equally at both ends."""
    scale = max(bucket.width / picture.width, bucket.height / picture.height)
    width, height = bucket.width / scale, bucket.height / scale
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    box = (max(left, 0.0), max(top, 0.0), min(left + width, picture.width), min(top + height, picture.height))
    fitted = picture.convert("RGB").resize((bucket.width, bucket.height), Image.Resampling.LANCZOS, box=box)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)
