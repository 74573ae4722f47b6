from itertools import combinations

import pytest

from mos.shapes.scene import BACKGROUNDS, PALETTE, Background, Category, Colour, Scene
from tests.mos.shapes.scenes import scene_from_dict


def test_every_colour_has_ink_and_no_two_are_near() -> None:
    assert set(PALETTE) == set(Colour)
    assert set(BACKGROUNDS) == set(Background)
    for one, other in combinations([*PALETTE.values(), *BACKGROUNDS.values()], 2):
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) > 80**2


def test_a_scene_of_unknown_words_is_refused() -> None:
    data = Scene(Category.SINGLE_OBJECT, Background.WHITE, ()).as_dict()
    with pytest.raises(ValueError, match="mauve"):
        scene_from_dict({**data, "background": "mauve"})
