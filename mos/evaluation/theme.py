"""The look of every figure: one palette for paper-white and one for dark screens, and Agg figures drawn with it."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PIXELS_PER_INCH = 160
"""Twice the width a report shows a figure at, so that text stays sharp on dense screens."""


@dataclass(frozen=True)
class Theme:
    """Colours of a figure, as `#rrggbb`."""

    name: str
    background: str
    ink: str
    """Titles and values."""
    muted: str
    """Labels, ticks and notes."""
    rule: str
    """Grid lines and frames."""
    accent: str
    """What the figure is about."""
    good: str
    bad: str
    series: tuple[str, ...]
    """Lines of a plot, in order."""
    ramp: tuple[str, ...]
    """Ends of a sequential colour map, from nothing to everything."""


LIGHT = Theme(
    name="light",
    background="#ffffff",
    ink="#1a1d23",
    muted="#6b7280",
    rule="#e5e7eb",
    accent="#3457d5",
    good="#1a8a5a",
    bad="#c93a3a",
    series=("#3457d5", "#e07b39", "#1a8a5a", "#a24bb8", "#c93a3a", "#0f8b9d"),
    ramp=("#f5f6fa", "#b9c6f2", "#5f7fe6", "#2b3fa8", "#141a4d"),
)
DARK = Theme(
    name="dark",
    background="#16181d",
    ink="#eceef2",
    muted="#9aa3b2",
    rule="#2c3038",
    accent="#8aa4ff",
    good="#4cc38a",
    bad="#ff7b72",
    series=("#8aa4ff", "#f2a06b", "#4cc38a", "#d08be0", "#ff7b72", "#5cc8d7"),
    ramp=("#1d2027", "#2b3566", "#4a62c0", "#8aa4ff", "#e8edff"),
)


@contextmanager
def drawing(theme: Theme) -> Iterator[None]:
    """Draw with the theme's colours and type; leaves matplotlib's own settings as they were."""
    settings: dict[Any, Any] = {
        "figure.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "axes.facecolor": theme.background,
        "axes.edgecolor": theme.rule,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": theme.rule,
        "grid.linewidth": 0.8,
        "text.color": theme.ink,
        "xtick.color": theme.rule,
        "ytick.color": theme.rule,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "font.family": "DejaVu Sans",
        "font.size": 9,
    }
    with mpl.rc_context(settings):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, on the Agg canvas: needs no display and no global state."""
    figure = Figure(figsize=(width, height), dpi=PIXELS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def figure_png(draw: Callable[[Theme], Figure], theme: Theme) -> bytes:
    """Draw one figure in one theme and return it as PNG bytes."""
    buffer = io.BytesIO()
    with drawing(theme):
        draw(theme).savefig(buffer, format="png")
    return buffer.getvalue()
