"""A picture that tells up from down, as files of any kind."""

import io

import numpy as np
from PIL import Image

RED, BLUE = (220, 20, 30), (20, 40, 210)


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """Red above blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (0, height // 2, width, height))
    return image


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def close(image: Image.Image, expected: Image.Image, tolerance: int = 12) -> bool:
    assert image.mode == "RGB"
    assert image.size == expected.size
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(expected.convert("RGB")).astype(int))
    return bool(np.median(difference) <= tolerance and difference.mean() <= tolerance)
