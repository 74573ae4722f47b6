"""A picture to edit is the same however it is given, and what is none is refused in one sentence."""

import io
from os import PathLike
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.sampling.references import read_reference, read_references

LIMITS = ImageLimits()
NAME = "image"


def two_halves() -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    return image


class CountedPath(PathLike):
    """A path that counts how often it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, 0

    def __fspath__(self) -> str:
        self.asked += 1
        return str(self.path)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["path", "text", "bytes", "picture", "opened file"])
def test_a_picture_is_the_same_in_every_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(two_halves()))
    given = {
        "path": lambda: path,
        "text": lambda: str(path),
        "bytes": path.read_bytes,
        "picture": two_halves,
        "opened file": lambda: Image.open(path),
    }[form]()
    read = read_reference(NAME, given, LIMITS)
    assert read.mode == "RGB"
    assert np.array_equal(np.asarray(read), np.asarray(two_halves()))


def test_a_picture_is_put_upright_and_on_white() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = read_reference(NAME, encoded(two_halves(), exif=exif), LIMITS)
    assert turned.getpixel((0, 0)) == (0, 0, 255)
    faint = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    faint.putpixel((5, 5), (255, 0, 0, 255))
    laid = read_reference(NAME, faint, LIMITS)
    assert (laid.getpixel((0, 0)), laid.getpixel((5, 5))) == ((255, 255, 255), (255, 0, 0))


def test_limits_are_those_of_the_caller() -> None:
    small = Image.new("RGB", (8, 8))
    for reference in (small, [small, small]):
        assert [read.size for read in read_references(reference, 2, ImageLimits(min_side_px=8))] == [(8, 8)] * 2
    with pytest.raises(UserError, match=r"source = <PIL.* is not a picture that can be edited: image_too_small: 8x8"):
        read_reference("source", small, LIMITS)


def test_no_reference_is_none_for_each_prompt() -> None:
    assert read_references(None, 3, LIMITS) == [None] * 3
    assert read_references([None, None], 2, LIMITS) == [None] * 2


def test_a_picture_of_several_prompts_is_decoded_once(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(encoded(two_halves()))
    path, other = CountedPath(tmp_path / "picture.png"), encoded(Image.new("RGB", (20, 20), "green"))
    one, green, again = read_references([path, other, path], 3, LIMITS)
    assert (one.size, green.size, again.size) == ((40, 20), (20, 20), (40, 20))
    assert path.asked == 1
    read_references(path, 3, LIMITS)
    assert path.asked == 2


@pytest.mark.parametrize(
    ("reference", "num", "message"),
    [
        (3, 1, "image = 3 is no picture: pass a PIL image, a path, the bytes of an image file, an array"),
        (np.zeros((9, 9)), 1, r"image of shape \(9, 9\) is no picture: pass an array \[height, width, 3\]"),
        (np.full((9, 9, 3), 2.0), 1, r"image has values outside of \[0, 1\]: scale them, or pass bytes"),
        ([b"", 3], 2, r"image\[0\] = b'' is not a picture that can be edited: image_empty"),
        ([two_halves(), 3], 2, r"image\[1\] = 3 is no picture"),
        (["/none/a.png"], 1, r"image\[0\] = '/none/a.png' cannot be read: No such file"),
        (Path("/"), 1, "cannot be read: Is a directory"),
        ("a\0b", 1, r"image = 'a\\x00b' cannot be read: embedded null byte"),
        (b"GIF89a", 1, "is not a picture that can be edited: image_format_refused"),
        (encoded(two_halves())[:60], 1, r"image = b'.*… is not a picture that can be edited"),
        (Image.new("HSV", (32, 32)), 1, "image_mode_refused"),
        ([two_halves()], 2, "1 values of image for 2 prompts: pass one, or one for each"),
        ([], 1, "0 values of image for 1 prompts"),
        ([two_halves(), None], 2, "prompt 1 has no image while others have"),
        ([None, two_halves(), None], 3, "prompt 0 has no image while others have: draw them in separate calls"),
    ],
)
def test_mistakes_end_in_one_sentence(reference: object, num: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_references(reference, num, LIMITS)
    assert "\n" not in str(caught.value)
