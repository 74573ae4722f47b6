import io

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from mos.evaluation.theme import DARK, LIGHT, PIXELS_PER_INCH, Theme, figure_png, new_figure

both_themes = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it, 0 to 1."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1, which nobody can read, to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@both_themes
def test_text_can_be_read_on_its_background(theme: Theme) -> None:
    assert contrast(theme.ink, theme.background) > 7
    assert contrast(theme.muted, theme.background) > 4.5
    for colour in (theme.good, theme.bad, theme.accent):
        assert contrast(colour, theme.background) > 3


@both_themes
def test_a_ramp_leaves_the_background_step_by_step(theme: Theme) -> None:
    steps = [contrast(colour, theme.background) for colour in theme.ramp]
    assert steps == sorted(steps)
    assert steps[0] < 1.2
    assert steps[-1] > 10


@both_themes
def test_a_figure_has_the_theme_s_background_and_size(theme: Theme) -> None:
    image = Image.open(io.BytesIO(figure_png(lambda _: new_figure(1.5, 0.5), theme))).convert("RGB")
    assert image.size == (1.5 * PIXELS_PER_INCH, 0.5 * PIXELS_PER_INCH)
    background = tuple(round(255 * part) for part in to_rgb(theme.background))
    assert image.getcolors() == [(image.width * image.height, background)]


def test_what_is_drawn_has_the_theme_s_colours() -> None:
    def draw(theme: Theme) -> Figure:
        figure = new_figure(1, 1)
        axes = figure.subplots()
        assert axes.get_facecolor()[:3] == to_rgb(theme.background)
        assert axes.set_title("a", loc="left").get_color() == theme.ink
        assert axes.xaxis.label.get_color() == theme.muted
        assert not axes.spines["top"].get_visible()
        return figure

    for theme in (LIGHT, DARK):
        assert figure_png(draw, theme)


def test_settings_are_as_before_also_after_an_error() -> None:
    def fail(theme: Theme) -> Figure:
        assert mpl.rcParams["text.color"] == theme.ink
        raise ZeroDivisionError

    with mpl.rc_context({"text.color": "#123456", "axes.titlesize": 77}):
        before = dict(mpl.rcParams)
        figure_png(lambda _: new_figure(1, 1), LIGHT)
        assert dict(mpl.rcParams) == before
        with pytest.raises(ZeroDivisionError):
            figure_png(fail, DARK)
        assert dict(mpl.rcParams) == before
