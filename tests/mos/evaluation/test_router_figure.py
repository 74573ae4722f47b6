import io
from functools import partial

import pytest
from PIL import Image

from mos.evaluation.router_figure import panel_steps, readable, router_figure, shown_tokens
from mos.evaluation.theme import DARK, LIGHT, drawing, figure_png
from tests.mos.evaluation.stories import WORDS, router_story


def test_panels_reach_from_the_first_step_to_the_last() -> None:
    assert panel_steps(20, 6) == [0, 4, 8, 11, 15, 19]
    assert panel_steps(3, 6) == [0, 1, 2]
    assert panel_steps(1, 6) == [0]


def test_words_come_before_special_tokens() -> None:
    assert shown_tokens(WORDS, 4) == [1, 2, 3, 4]
    assert shown_tokens(WORDS, 8) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert shown_tokens(("[CLS]", "a"), 8) == [0, 1]


@pytest.mark.parametrize(("token", "shown"), [("##star", "–star"), ("Ġdog", "dog"), ("▁sign", "sign"), ("Ġ", "␣")])
def test_tokens_are_shown_as_words(token: str, shown: str) -> None:
    assert readable(token) == shown


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_figure_is_drawn(theme) -> None:
    image = Image.open(io.BytesIO(figure_png(partial(router_figure, router_story()), theme)))
    assert image.width > 1000


def test_a_large_router_fits_too() -> None:
    story = router_story(num_layers=48, num_blocks=38, tokens=tuple(f"word{i}" for i in range(11)))
    assert figure_png(partial(router_figure, story, num_tokens=10), LIGHT)


def test_maps_and_bars_show_the_trace_itself() -> None:
    story = router_story()
    with drawing(LIGHT):
        figure = router_figure(story, LIGHT, num_panels=2, num_tokens=3)
    maps = [axes.images[0].get_array() for axes in figure.axes if axes.images and axes.get_xlabel() == "block"]
    assert len(maps) == 3
    assert maps[0].tolist() == story.trace.weights[0, 1].tolist()
    bars = next(axes for axes in figure.axes if axes.patches and axes.get_xlabel() == "layer")
    heights = [patch.get_height() for patch in bars.patches]
    assert sum(heights) == pytest.approx(1.0, abs=1e-5)
