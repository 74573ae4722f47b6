"""Pictures to edit: from a file, its bytes or Pillow, decoded as training decodes them."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mos.errors import UserError
from mos.images.decode import ImageLimits, decode_image, decode_opened
from mos.images.reasons import Rejected
from mos.sampling.arguments import one_each, shown

Picture = Image.Image | str | PathLike | bytes | np.ndarray | Tensor
"""A picture in memory, the path of one, or its encoded bytes. One of Pillow is read as its file would be, by its mode,
colour profile and EXIF orientation; an array is [height width 3], a tensor [3 height width], of values in [0, 1]."""


def read_references(
    reference: Picture | Sequence[Picture | None] | None, num: int, limits: ImageLimits
) -> list[Image.Image | None]:
    """The picture to edit of each of `num` prompts, upright and in sRGB; one for all is decoded once.

    Several may also come as an array or tensor with one dimension more.

    Raises:
        UserError: a picture cannot be read or edited, there is not one for each prompt, or some prompts have none.
    """
    if isinstance(reference, np.ndarray | Tensor) and reference.ndim == 4:
        reference = list(reference)
    if reference is None or isinstance(reference, Picture):
        return [None if reference is None else read_reference("image", reference, limits)] * num
    if not isinstance(reference, Sequence):
        raise UserError(_unknown("image", reference))
    given = one_each("image", list(reference), num)
    missing = [index for index, picture in enumerate(given) if picture is None]
    if 0 < len(missing) < num:
        raise UserError(f"prompt {missing[0]} has no image while others have: draw them in separate calls")
    known: dict[int, Image.Image] = {}
    for index, picture in enumerate(given):
        if picture is not None and id(picture) not in known:
            known[id(picture)] = read_reference(f"image[{index}]", picture, limits)
    return [None if picture is None else known[id(picture)] for picture in given]


def read_reference(name: str, picture: object, limits: ImageLimits) -> Image.Image:
    """A picture to edit: mode RGB, upright, in sRGB, transparency laid on white.

    Args:
        name: what the caller knows it by.
        picture: a `Picture`.
        limits: what it is held to; training's are `curate.image`.

    Raises:
        UserError: it is none, cannot be read, or training would have rejected it.
    """
    try:
        match picture:
            case Image.Image():
                return decode_opened(picture, limits)
            case str() | PathLike():
                return decode_image(Path(picture).read_bytes(), limits)
            case bytes():
                return decode_image(picture, limits)
            case np.ndarray() | Tensor():
                return decode_opened(_pillow(name, picture), limits)
    except Rejected as rejected:
        raise UserError(f"{name} = {shown(picture)} is not a picture that can be edited: {rejected}") from rejected
    except (OSError, ValueError) as error:
        raise UserError(f"{name} = {shown(picture)} cannot be read: {getattr(error, 'strerror', error)}") from error
    raise UserError(_unknown(name, picture))


def _pillow(name: str, picture: np.ndarray | Tensor) -> Image.Image:
    """A picture of values in [0, 1], or of bytes."""
    values = picture.detach().cpu().float().numpy() if isinstance(picture, Tensor) else picture
    if isinstance(picture, Tensor) and values.ndim == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim != 3 or values.shape[2] != 3:
        raise UserError(
            f"{name} of shape {tuple(picture.shape)} is no picture: pass an array [height, width, 3] or a tensor "
            "[3, height, width]"
        )
    if picture.dtype in (np.uint8, torch.uint8):
        return Image.fromarray(values.astype(np.uint8))
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise UserError(f"{name} has values outside of [0, 1]: scale them, or pass bytes")
    return Image.fromarray((values * 255).round().astype(np.uint8))


def _unknown(name: str, value: object) -> str:
    return (
        f"{name} = {shown(value)} is no picture: pass a PIL image, a path, the bytes of an image file, an array or a "
        "tensor"
    )
