from functools import partial

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from mos.evaluation.grids import Captioned, EditExample, edit_grid, picture_grid
from mos.evaluation.theme import DARK, LIGHT, figure_png

RED, BLUE, GREEN = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green"))
LONG = "a photo of a red circle left of a blue square on a white background beside a green star and a pink ring"


def shown(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize(
    ("num", "columns", "cells"), [(7, 6, (2, 6)), (6, 6, (1, 6)), (2, 6, (1, 2)), (1, 6, (1, 1)), (4, 3, (2, 3))]
)
def test_pictures_fill_rows_and_what_is_left_of_the_last_stays_empty(num: int, columns: int, cells: tuple) -> None:
    pictures = [Captioned(Image.new("RGB", (4, 4), (number, 0, 0)), f"picture {number}") for number in range(num)]
    figure = picture_grid(pictures, LIGHT, columns)
    assert figure.axes[0].get_gridspec().get_geometry() == cells
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in visible] == [picture.prompt for picture in pictures]
    assert [int(shown(axes)[0, 0, 0]) for axes in visible] == list(range(num))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_mark_and_its_colour_say_what_the_checker_says(theme) -> None:
    verdicts = {None: ("a", theme.muted), True: ("✓ a", theme.good), False: ("✗ a", theme.bad)}
    pictures = picture_grid([Captioned(RED, "a", correct) for correct in verdicts], theme)
    labels = [axes.xaxis.label for axes in pictures.axes]
    assert [(label.get_text(), label.get_color()) for label in labels] == list(verdicts.values())
    edits = edit_grid([EditExample(RED, "a", BLUE, correct=correct) for correct in verdicts], theme)
    assert [card.get_suptitle() for card in edits.subfigs] == [text for text, _ in verdicts.values()]
    assert [card.texts[0].get_color() for card in edits.subfigs] == [colour for _, colour in verdicts.values()]


def test_a_long_prompt_ends_after_three_lines() -> None:
    text = picture_grid([Captioned(RED, LONG)] * 6, LIGHT).axes[0].get_xlabel()
    assert text.count("\n") == 2
    assert text.endswith("…")
    assert LONG.startswith(text.removesuffix("…").replace("\n", " "))
    assert picture_grid([Captioned(RED, LONG)], LIGHT).axes[0].get_xlabel().replace("\n", " ") == LONG
    lines = [letter * 16 for letter in "abc"]
    three = picture_grid([Captioned(RED, " ".join(lines))] * 6, LIGHT)
    assert three.axes[0].get_xlabel() == "\n".join(lines)


def test_an_edit_leads_from_its_source_to_its_result() -> None:
    examples = [EditExample(RED, "make it blue", BLUE, GREEN), *[EditExample(GREEN, "remove it", RED)] * 3]
    figure = edit_grid(examples, LIGHT)
    assert len(figure.subfigs) == 6
    assert [len(card.axes) for card in figure.subfigs] == [2] * 4 + [0] * 2
    for card, example in zip(figure.subfigs, examples, strict=False):
        before, after = card.axes
        assert np.array_equal(shown(before), np.asarray(example.source))
        assert np.array_equal(shown(after), np.asarray(example.result))
        assert card.get_suptitle() == example.instruction
        assert [note.get_text() for note in before.texts] == ["→"]
    assert len(edit_grid(examples[:1], LIGHT).subfigs) == 1


@pytest.mark.parametrize(("side", "interpolation"), [(255, "nearest"), (256, "antialiased")])
def test_only_small_pictures_show_their_pixels(side: int, interpolation: str) -> None:
    image = Image.new("RGB", (side, 8))
    assert picture_grid([Captioned(image, "")], LIGHT).axes[0].images[0].get_interpolation() == interpolation


@pytest.mark.parametrize(
    "text", ["", "a star", "costs $5, not $6", "$5 for 50% off $", r"a $\frob$ on top", "$x^$ y", "{a} <b> & c_d^e"]
)
def test_any_text_can_be_drawn(text: str) -> None:
    assert figure_png(partial(picture_grid, [Captioned(RED, text, True)]), LIGHT)
    assert figure_png(partial(edit_grid, [EditExample(RED, text, BLUE, correct=False)]), DARK)
