"""Which layers the router picks: by timestep and by token, as two maps."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mos.evaluation.charts import CHART_WIDTH
from mos.evaluation.router_figure import readable
from mos.evaluation.theme import Theme, new_figure
from mos.sampling.layer_usage import LayerUsage, usage_of_words


def usage_figure(usage: LayerUsage, theme: Theme, *, num_words: int = 14) -> Figure:
    """Share of the picks that each layer gets: left by step from noise to data, right by word.

    Args:
        usage: of one picture or of many.
        theme: colours.
        num_words: distinct tokens shown, the most frequent ones.
    """
    words = dict(list(usage_of_words(usage).items())[:num_words])
    rows = max(len(usage.timesteps), len(words))
    figure = new_figure(CHART_WIDTH, 1.0 + 0.17 * rows)
    left, right = figure.subplots(1, 2)
    by_word = np.stack([share.numpy() for share in words.values()])
    highest = max(float(usage.by_step.max()), float(by_word.max()))
    _map(left, usage.by_step.numpy(), usage.layers, highest, theme)
    left.set_title("by step, from noise to data")
    left.set_yticks(range(len(usage.timesteps)), [f"t = {t:.2f}" for t in usage.timesteps.tolist()])
    shades = _map(right, by_word, usage.layers, highest, theme)
    right.set_title("by token")
    right.set_yticks(range(len(words)), [readable(word) for word in words], parse_math=False)
    bar = figure.colorbar(shades, ax=[left, right], fraction=0.03, pad=0.02, aspect=18)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7)
    return figure


def _map(axes: Axes, shares: np.ndarray, layers: tuple[int, ...], highest: float, theme: Theme) -> AxesImage:
    colors = LinearSegmentedColormap.from_list(theme.name, list(theme.ramp))
    shades = axes.imshow(shares, cmap=colors, vmin=0, vmax=highest, aspect="auto", interpolation="nearest")
    count = shares.shape[1]
    ticks = range(count) if count <= 12 else range(0, count, -(-count // 8))
    axes.set_xticks(list(ticks), [str(layers[tick]) for tick in ticks])
    axes.set_xlabel("layer")
    axes.tick_params(length=0, labelsize=7)
    axes.spines[:].set_visible(False)
    return shades
