"""The shape that is named is the one that was drawn, and it lies where it was drawn."""

import numpy as np
import pytest
from scipy import ndimage

from mos.shapes.fit import ShapeFit, fit_shape
from mos.shapes.render import coverage
from mos.shapes.scene import Shape

CANVAS = (40, 60)


def drawn(shape: Shape, size: float = 18.0, centre: tuple[float, float] = (41.3, 17.8)) -> np.ndarray:
    """One sharp shape of full ink, well away from the middle of its picture."""
    return coverage(shape, centre, size, CANVAS)


def placed(fit: ShapeFit) -> tuple[float, float, float]:
    return fit.x, fit.y, fit.size


@pytest.mark.parametrize("shape", Shape)
def test_a_sharp_shape_is_named_and_measured(shape: Shape) -> None:
    picture = drawn(shape)
    fit = fit_shape(picture, strength=1.0)
    assert fit.shape is shape
    assert placed(fit) == pytest.approx((41.3, 17.8, 18), abs=0.25)
    assert fit.error < 0.01 * picture.sum()


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("size", [7.0, 31.0])
def test_shapes_of_every_size_are_told_apart(shape: Shape, size: float) -> None:
    fit = fit_shape(drawn(shape, size, (30.4, 19.7)), strength=1.0)
    assert fit.shape is shape
    assert placed(fit) == pytest.approx((30.4, 19.7, size), abs=0.5)


@pytest.mark.parametrize("shape", Shape)
def test_blur_changes_neither_name_nor_place(shape: Shape) -> None:
    picture = ndimage.gaussian_filter(drawn(shape), 0.1 * 18)
    fit = fit_shape(picture, strength=1.0)
    assert fit.shape is shape
    assert placed(fit) == pytest.approx((41.3, 17.8, 18), abs=0.3)


@pytest.mark.parametrize("shape", Shape)
def test_faint_ink_is_as_large_as_full_ink(shape: Shape) -> None:
    faint = 0.5 * drawn(shape)
    fit = fit_shape(faint, strength=0.5)
    assert fit.shape is shape
    assert placed(fit) == pytest.approx((41.3, 17.8, 18), abs=0.25)
    assert fit_shape(faint, strength=1.0).error > 10 * fit.error


@pytest.mark.parametrize("shape", Shape)
def test_a_small_soft_shape_is_not_taken_for_faint_ink(shape: Shape) -> None:
    """Its middle is as weak as that of a large faint one; both readings are tried, and the better one wins."""
    soft = ndimage.gaussian_filter(drawn(shape, 10.0), 0.18 * 10)
    fit = fit_shape(soft, strength=float(soft.max()))
    assert fit.shape is shape
    assert placed(fit) == pytest.approx((41.3, 17.8, 10), abs=0.4)


@pytest.mark.parametrize("corner", [(0, 0), (22, 42)])
def test_the_place_is_that_in_the_whole_picture(corner: tuple[int, int]) -> None:
    """Up to the border, where there is no room around the object."""
    top, left = corner
    picture = np.zeros(CANVAS, np.float32)
    picture[top : top + 18, left : left + 18] = coverage(Shape.STAR, (9.0, 9.0), 17.0, (18, 18))
    fit = fit_shape(picture, strength=1.0)
    assert fit.shape is Shape.STAR
    assert placed(fit) == pytest.approx((left + 9, top + 9, 17), abs=0.5)


def test_what_is_no_shape_leaves_an_error() -> None:
    bar = np.zeros(CANVAS, np.float32)
    bar[18:21, 5:55] = 1
    assert fit_shape(bar, strength=1.0).error > 0.5 * bar.sum()


def test_a_single_pixel_is_measured_too() -> None:
    dot = np.zeros(CANVAS, np.float32)
    dot[7, 30] = 1
    fit = fit_shape(dot, strength=1.0)
    assert (fit.x, fit.y) == pytest.approx((30.5, 7.5), abs=0.2)
    assert 0.5 < fit.size < 3
