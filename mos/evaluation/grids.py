"""Pictures with their prompts, and edits with their instructions, as one figure."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from PIL import Image

from mos.evaluation.theme import Theme, new_figure

GRID_WIDTH = 7.2
"""Inches, as the charts."""


@dataclass(frozen=True)
class Captioned:
    """A picture and the prompt it was drawn from."""

    image: Image.Image
    prompt: str
    correct: bool | None = None
    """What the checker says; None where nobody checked."""


@dataclass(frozen=True)
class EditExample:
    """One edit, from the picture that was given to the one that came out."""

    source: Image.Image
    instruction: str
    result: Image.Image
    target: Image.Image | None = None
    """What was hoped for, where it is known."""
    correct: bool | None = None
    """What the checker says; None where nobody checked."""


def picture_grid(pictures: Sequence[Captioned], theme: Theme, columns: int = 6) -> Figure:
    """Pictures in reading order, each above its prompt; a mark says whether the checker agrees."""
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    cell = GRID_WIDTH / columns
    figure = new_figure(GRID_WIDTH, rows * (cell + 0.5))
    fill_grid(figure, pictures, theme, columns, cell)
    return figure


def fill_grid(figure: FigureBase, pictures: Sequence[Captioned], theme: Theme, columns: int, cell: float) -> None:
    """The grid in a figure, or in a part of one; a cell is so many inches wide."""
    rows = -(-len(pictures) // columns)
    for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        if index >= len(pictures):
            axes.set_visible(False)
            continue
        picture = pictures[index]
        _show(axes, picture.image, theme)
        _caption(axes, _wrapped(picture.prompt, cell), picture.correct, theme)


def edit_grid(examples: Sequence[EditExample], theme: Theme, per_row: int = 3) -> Figure:
    """Source, arrow and result of each edit, below its instruction; a mark says whether the checker agrees."""
    per_row = min(per_row, len(examples))
    rows = -(-len(examples) // per_row)
    cell = GRID_WIDTH / per_row / 2
    figure = new_figure(GRID_WIDTH, rows * (cell + 0.35))
    cards = figure.subfigures(rows, per_row, squeeze=False)
    for card, example in zip(cards.flat, examples, strict=False):
        before, after = card.subplots(1, 2)
        _show(before, example.source, theme)
        _show(after, example.result, theme)
        before.annotate("→", (1.08, 0.5), xycoords="axes fraction", ha="center", va="center", color=theme.muted)
        heading = _marked(_wrapped(example.instruction, 2 * cell), example.correct)
        card.suptitle(heading, parse_math=False, fontsize=8, color=_verdict(example.correct, theme))
    return figure


def _show(axes: Axes, image: Image.Image, theme: Theme) -> None:
    axes.imshow(image, interpolation="nearest" if max(image.size) < 256 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=theme.rule)


def _caption(axes: Axes, text: str, correct: bool | None, theme: Theme) -> None:
    axes.set_xlabel(_marked(text, correct), parse_math=False, fontsize=7.5, color=_verdict(correct, theme), labelpad=3)


def _marked(text: str, correct: bool | None) -> str:
    return text if correct is None else f"{'✓' if correct else '✗'} {text}"


def _verdict(correct: bool | None, theme: Theme) -> str:
    match correct:
        case None:
            return theme.muted
        case True:
            return theme.good
        case False:
            return theme.bad


def _wrapped(text: str, width: float) -> str:
    """Text broken to lines of a width in inches, three lines at most."""
    lines = textwrap.wrap(text, max(8, int(width * 14)))
    return "\n".join(lines[:3]) + ("…" if len(lines) > 3 else "")
