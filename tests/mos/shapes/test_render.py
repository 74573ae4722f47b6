import numpy as np
import pytest

from mos.shapes.render import coverage, render
from mos.shapes.scene import BACKGROUNDS, PALETTE, Background, Category, Colour, Scene, SceneObject, Shape

AREAS = {Shape.CIRCLE: np.pi / 4, Shape.RING: np.pi * (0.25 - 0.26**2), Shape.SQUARE: 0.88**2, Shape.TRIANGLE: 0.46}


@pytest.mark.parametrize(("shape", "area"), AREAS.items())
def test_coverage_sums_to_the_area_at_any_subpixel_place(shape: Shape, area: float) -> None:
    for centre in [(16.0, 16.0), (15.3, 16.7), (17.9, 14.1)]:
        assert coverage(shape, centre, 20.0, (32, 32)).sum() == pytest.approx(area * 20**2, rel=0.04)


@pytest.mark.parametrize("shape", Shape)
def test_a_shape_stands_where_it_was_put(shape: Shape) -> None:
    mass = coverage(shape, (30.0, 20.0), 16.0, (40, 60))
    rows, columns = np.nonzero(mass > 0.05)
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(30, abs=1)
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(20, abs=1)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(16, abs=2.5)
    np.testing.assert_allclose(mass[:, 30:], mass[:, 29::-1], atol=0.15)  # upright: left mirrors right


@pytest.mark.parametrize("size", [(32, 32), (24, 44), (160, 80)])
def test_a_picture_has_the_size_the_ink_and_the_background_asked_for(size: tuple[int, int]) -> None:
    item = SceneObject(Shape.SQUARE, Colour.CYAN, 0.5, 0.5, 0.5)
    image = render(Scene(Category.SINGLE_OBJECT, Background.BLACK, (item,)), *size)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    assert tuple(image[0, 0]) == BACKGROUNDS[Background.BLACK]
    assert tuple(image[size[0] // 2, size[1] // 2]) == PALETTE[Colour.CYAN]


def test_edges_are_antialiased() -> None:
    mass = coverage(Shape.CIRCLE, (16.0, 16.0), 20.0, (32, 32))
    assert len(np.unique(mass)) > 10
