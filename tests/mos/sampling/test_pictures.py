"""Sizes that can be drawn, and pictures that keep their pixels from one form to the next."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError

from mos.errors import UserError
from mos.sampling.pictures import bucket_size, fit, from_png, picture_size, to_images, to_png

PIXELS = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
"""Two pictures, 5 px wide and 4 high, in which no two values are alike."""


@pytest.mark.parametrize(
    ("height", "width", "size"), [(None, None, (16, 16)), (8, None, (8, 16)), (None, 24, (16, 24)), (4, 40, (4, 40))]
)
def test_a_side_that_is_not_given_is_the_resolution(height: int | None, width: int | None, size: tuple) -> None:
    assert picture_size(height, width, resolution=16, token_px=4) == size


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (33, None, "height = 33 is not a multiple of the token size, 4 px: use 32 or 36"),
        (None, 6, "width = 6 is not a multiple of the token size, 4 px: use 4 or 8"),
        (2, None, "height = 2 is refused: pass a whole number from 4"),
        (None, 0, "width = 0 is refused: pass a whole number from 4"),
    ],
)
def test_other_sizes_name_the_nearest(height: int | None, width: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        picture_size(height, width, resolution=16, token_px=4)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((90, 90), (16, 16)), ((90, 30), (12, 20)), ((30, 90), (20, 12)), ((3000, 1500), (12, 20)), ((3, 3), (16, 16))],
)
def test_a_picture_gets_the_bucket_of_its_aspect_whatever_its_size(size: tuple, expected: tuple) -> None:
    assert bucket_size(Image.new("RGB", size), 16, 4, 2.0) == expected


def test_buckets_are_as_long_as_those_of_training() -> None:
    long = Image.new("RGB", (900, 100))
    assert bucket_size(long, 16, 4, 1.0) == (16, 16)
    assert bucket_size(long, 16, 4, 2.0) == (12, 20)
    assert bucket_size(long, 16, 4, 4.0) == (8, 32)


def test_pictures_are_cropped_around_their_centre() -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = (10, 20, 30)
    fitted = fit([Image.fromarray(wide), Image.fromarray(wide.transpose(1, 0, 2))], 4, 4)
    assert (fitted.shape, fitted.dtype) == ((2, 3, 4, 4), torch.uint8)
    assert torch.equal(fitted, torch.tensor([10, 20, 30], dtype=torch.uint8)[None, :, None, None].expand(2, -1, 4, 4))


def test_a_batch_of_pixels_is_a_list_of_pictures_and_back() -> None:
    images = to_images(PIXELS)
    assert [(image.size, image.mode) for image in images] == [((5, 4), "RGB")] * 2
    assert images[1].getpixel((2, 3)) == tuple(PIXELS[1, :, 3, 2].tolist())
    assert torch.equal(fit(images, 4, 5), PIXELS)


def test_png_keeps_every_pixel() -> None:
    image = to_images(PIXELS)[0]
    data = to_png(image)
    assert data.startswith(b"\x89PNG")
    assert np.array_equal(np.asarray(from_png(data)), np.asarray(image))


def test_only_png_is_read_back_and_at_once() -> None:
    buffer = io.BytesIO()
    to_images(PIXELS)[0].save(buffer, "JPEG")
    with pytest.raises(UnidentifiedImageError):
        from_png(buffer.getvalue())
    with pytest.raises(OSError, match="truncated"):
        from_png(to_png(Image.effect_noise((64, 64), 50))[:-2000])
