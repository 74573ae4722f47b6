import numpy as np
import pytest
from scipy import ndimage

from mos.shapes.detect import detect
from mos.shapes.render import render
from mos.shapes.scene import Background, Category, Colour, Scene, SceneObject, Shape


def draw(
    *objects: SceneObject, background: Background = Background.WHITE, size: tuple[int, int] = (32, 32)
) -> np.ndarray:
    return render(Scene(Category.SINGLE_OBJECT, background, objects), *size)


@pytest.mark.parametrize("background", Background)
@pytest.mark.parametrize("shape", Shape)
def test_every_shape_in_every_colour_is_seen_where_it_is(shape: Shape, background: Background) -> None:
    for colour in Colour:
        seen = detect(draw(SceneObject(shape, colour, 0.45, 0.55, 0.4), background=background))
        (item,) = seen.objects
        assert (item.shape, item.colour, seen.background) == (shape, colour, background)
        assert (item.x, item.y, item.size) == pytest.approx((0.45, 0.55, 0.4), abs=0.03)


@pytest.mark.parametrize("shape", Shape)
def test_large_pictures_are_read_as_well(shape: Shape) -> None:
    (item,) = detect(draw(SceneObject(shape, Colour.RED, 0.3, 0.6, 0.4), size=(512, 700))).objects
    assert item.shape == shape
    assert (item.x, item.y, item.size) == pytest.approx((0.3, 0.6, 0.4), abs=0.02)


@pytest.mark.parametrize("shape", Shape)
def test_faint_ink_keeps_its_colour_and_shape(shape: Shape) -> None:
    image = draw(SceneObject(shape, Colour.ORANGE, 0.5, 0.5, 0.5)).astype(float)
    faint = (image[0, 0] + 0.5 * (image - image[0, 0])).astype(np.uint8)
    (item,) = detect(faint).objects
    assert (item.shape, item.colour) == (shape, Colour.ORANGE)


def test_the_largest_object_comes_first_and_specks_are_no_objects() -> None:
    small = SceneObject(Shape.SQUARE, Colour.BLUE, 0.25, 0.25, 0.25)
    large = SceneObject(Shape.CIRCLE, Colour.RED, 0.7, 0.7, 0.45)
    image = draw(small, large)
    image[2, 29] = (222, 30, 34)
    assert [item.colour for item in detect(image).objects] == [Colour.RED, Colour.BLUE]


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_grey_things_are_no_objects(grey: int) -> None:
    image = draw(background=Background.GREY)
    image[8:24, 8:24] = grey
    assert detect(image).objects == ()


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (4, 60)])
def test_plain_pictures_of_any_size_are_empty(size: tuple[int, int]) -> None:
    for value in (0, 120, 255):
        assert detect(np.full((*size, 3), value, dtype=np.uint8)).objects == ()


def test_noise_is_survived() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    detect(noise)
    detect(ndimage.gaussian_filter(noise, (3, 3, 0)))
