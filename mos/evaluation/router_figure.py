"""Paper Fig. 14: how a picture comes about, which layers the router reads meanwhile, and what each token asks for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from PIL import Image

from mos.evaluation.theme import Theme, new_figure
from mos.sampling.trace import RouterTrace, layer_profile, token_maps

FIGURE_WIDTH = 7.2
"""Inches, as the charts."""
MAX_MARKED_CELLS = 400
"""Picks are dotted in maps of at most this many cells; in larger ones the dots would hide the map."""
MAX_TOKENS_PER_ROW = 8


@dataclass(frozen=True)
class RouterStory:
    """One traced picture."""

    prompt: str
    noisy: Sequence[Image.Image]
    """z_t of each step, decoded."""
    predicted: Sequence[Image.Image]
    """The picture that each step's velocity points to."""
    trace: RouterTrace


def router_figure(story: RouterStory, theme: Theme, *, num_panels: int = 6, num_tokens: int = 8) -> Figure:
    """Three rows: the denoising trajectory, the weight of each layer at its steps, each token's map at t = 1.

    Args:
        story: the traced picture.
        theme: colours.
        num_panels: steps shown, evenly spaced from noise to the last.
        num_tokens: words whose maps are shown; the tower's special tokens come last and may not be shown.
    """
    steps = panel_steps(len(story.trace.timesteps), num_panels)
    tokens = shown_tokens(story.trace.tokens, num_tokens)
    rows = -(-len(tokens) // MAX_TOKENS_PER_ROW)
    heights = [2.55, 1.65, 0.5 + 1.15 * rows]
    figure = new_figure(FIGURE_WIDTH, sum(heights) + 0.3)
    figure.suptitle(f"“{story.prompt}”", parse_math=False, x=0.012, ha="left", fontsize=11, fontweight="bold")
    bands = figure.subfigures(3, 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_trajectory(bands[0], story, steps, theme)
    _draw_layers(bands[1], story.trace, steps, theme)
    _draw_maps(bands[2], story.trace, tokens, theme)
    return figure


def panel_steps(num_steps: int, num_panels: int) -> list[int]:
    """Evenly spaced step numbers, the first and the last among them."""
    return sorted({round(step) for step in np.linspace(0, num_steps - 1, min(num_panels, num_steps))})


def shown_tokens(tokens: Sequence[str], limit: int) -> list[int]:
    """Positions of the tokens to show, in their order: words before special tokens, up to a limit."""
    ranked = sorted(range(len(tokens)), key=lambda position: (_is_special(tokens[position]), position))
    return sorted(ranked[:limit])


def _is_special(token: str) -> bool:
    return token[:1] in ("[", "<") and token[-1:] in ("]", ">")


def _draw_trajectory(figure: SubFigure, story: RouterStory, steps: Sequence[int], theme: Theme) -> None:
    figure.suptitle("Denoising", **_heading(theme))
    axes = figure.subplots(2, len(steps), squeeze=False)
    for column, step in enumerate(steps):
        for row, pictures in enumerate((story.noisy, story.predicted)):
            axes[row, column].imshow(pictures[step], interpolation="nearest")
            _frame(axes[row, column], theme)
        axes[0, column].set_title(f"t = {story.trace.timesteps[step]:.2f}", loc="center", fontsize=8)
    axes[0, 0].set_ylabel("$z_t$")
    axes[1, 0].set_ylabel("predicted")


def _draw_layers(figure: SubFigure, trace: RouterTrace, steps: Sequence[int], theme: Theme) -> None:
    figure.suptitle("Average weight of each understanding layer", **_heading(theme))
    profile = layer_profile(trace).numpy()
    num_layers = profile.shape[1]
    panels = figure.subplots(1, len(steps), sharey=True, squeeze=False)[0]
    for axes, step in zip(panels, steps, strict=True):
        axes.bar(range(1, num_layers + 1), profile[step], color=theme.accent, width=0.75)
        axes.axhline(1 / num_layers, color=theme.muted, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xticks(_ticks(num_layers), [str(trace.layers[tick - 1]) for tick in _ticks(num_layers)])
        axes.tick_params(length=0)
        axes.grid(axis="y")
        axes.set_xlabel("layer")
    panels[0].set_ylabel("weight")
    panels[0].set_ylim(0, 1.1 * max(profile[steps].max(), 1.5 / num_layers))


def _draw_maps(figure: SubFigure, trace: RouterTrace, tokens: Sequence[int], theme: Theme) -> None:
    heading = "What each token sends at t = 1: layer by generation block, dots mark the picks"
    figure.suptitle(heading if _is_marked(trace) else heading.split(",")[0], **_heading(theme))
    maps = token_maps(trace, t=1.0).numpy()
    picked = trace.picked[0].numpy()
    columns = min(len(tokens), MAX_TOKENS_PER_ROW)
    grid = figure.subplots(-(-len(tokens) // columns), columns, squeeze=False)
    colors = LinearSegmentedColormap.from_list(theme.name, list(theme.ramp))
    shades = None
    for index, axes in enumerate(grid.flat):
        if index >= len(tokens):
            axes.set_visible(False)
            continue
        token = tokens[index]
        shades = axes.imshow(maps[token], cmap=colors, vmin=0, vmax=maps.max(), origin="lower", aspect="auto")
        axes.set_title(readable(trace.tokens[token]), parse_math=False, loc="center", fontsize=8)
        _map_axes(axes, trace.layers, maps.shape[2], first=index % columns == 0, theme=theme)
        if _is_marked(trace):
            layer, block = np.nonzero(picked[token])
            axes.scatter(block, layer, s=3.5, color=theme.series[1], linewidths=0)
    if shades is not None:
        bar = figure.colorbar(shades, ax=grid, fraction=0.03, pad=0.01, aspect=18)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=7)


def readable(token: str) -> str:
    """A token as a reader would write it: without the tokenizer's marks for spaces and word pieces."""
    return token.replace("Ġ", "").replace("▁", "").replace("##", "–").strip() or "␣"


def _is_marked(trace: RouterTrace) -> bool:
    return trace.weights.shape[2] * trace.weights.shape[3] <= MAX_MARKED_CELLS


def _map_axes(axes: Axes, layers: tuple[int, ...], num_blocks: int, *, first: bool, theme: Theme) -> None:
    ticks = _ticks(len(layers))
    axes.set_xticks([tick - 1 for tick in _ticks(num_blocks)], [str(tick) for tick in _ticks(num_blocks)])
    axes.set_yticks([tick - 1 for tick in ticks], [str(layers[tick - 1]) for tick in ticks])
    axes.tick_params(length=0, labelsize=6.5)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("block", fontsize=7)
    if first:
        axes.set_ylabel("layer", fontsize=7)
    else:
        axes.set_yticklabels([])


def _ticks(count: int) -> list[int]:
    """First, middle and last number of 1..count, all of them where they are few."""
    return list(range(1, count + 1)) if count <= 8 else [1, (count + 1) // 2, count]


def _frame(axes: Axes, theme: Theme) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=theme.rule)


def _heading(theme: Theme) -> dict[str, object]:
    return {"x": 0.012, "ha": "left", "fontsize": 9, "color": theme.muted}
