"""Records of a run in, charts out: loss curves, reasons of rejection, aspect buckets, category scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mos.evaluation.scores import interval, with_margin
from mos.evaluation.theme import Theme, new_figure

CHART_WIDTH = 7.2
"""Inches; every chart of a report has the same width."""


@dataclass(frozen=True)
class LossCurve:
    """Training loss of one stage."""

    stage: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    held_out: tuple[tuple[int, float], ...] = ()
    """Step and loss on samples that are not trained on, with the average of the weights."""


def loss_chart(curves: Sequence[LossCurve], theme: Theme) -> Figure:
    """Loss against step, one panel a stage on one shared loss axis: each step faint, its running mean strong, the loss
    on held-out samples dotted.
    """
    figure = new_figure(CHART_WIDTH, 2.6)
    spans = [max(curve.steps[-1] - curve.steps[0], 1) ** 0.5 for curve in curves]
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False, width_ratios=spans)[0]
    for number, (axes, curve) in enumerate(zip(panels, curves, strict=True)):
        color = theme.series[number % len(theme.series)]
        axes.plot(curve.steps, curve.losses, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(curve.steps, running_mean(curve.losses), color=color, linewidth=1.8)
        if curve.held_out:
            axes.plot(*zip(*curve.held_out, strict=True), "o--", color=color, markersize=3, linewidth=0.8)
            axes.annotate("held out", curve.held_out[-1], xytext=(-4, 6), textcoords="offset points", ha="right")
        axes.set_title(curve.stage)
        axes.set_xlabel("step")
        axes.locator_params(axis="x", nbins=3, integer=True)
        axes.grid(axis="y")
        axes.margins(x=0.02)
    panels[0].set_ylabel("velocity loss")
    panels[0].set_ylim(bottom=0, top=_loss_ceiling(curves))
    return figure


def running_mean(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Mean over a centred window of a share of the curve, shorter at both ends."""
    array = np.asarray(values, dtype=np.float64)
    reach = max(1, round(len(array) * share / 2))
    total = np.concatenate([[0.0], np.cumsum(array)])
    index = np.arange(len(array))
    low, high = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(array))
    return [float(value) for value in (total[high] - total[low]) / (high - low)]


def reject_chart(rejected: Mapping[str, int], theme: Theme) -> Figure:
    """Horizontal bars: how many items each reason dropped, the most frequent first."""
    ordered = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
    figure = new_figure(CHART_WIDTH, 0.5 + 0.2 * max(len(ordered), 1))
    axes = figure.subplots()
    _horizontal_bars(axes, [name for name, _ in ordered], [count for _, count in ordered], theme.accent, theme)
    return figure


def bucket_chart(buckets: Mapping[str, Mapping[str, int]], theme: Theme) -> Figure:
    """Bars: samples in each aspect bucket, one panel a resolution, from the widest bucket to the tallest.

    Args:
        buckets: resolution such as `32 px` -> bucket such as `24x40` (height x width) -> samples.
        theme: colours.
    """
    figure = new_figure(CHART_WIDTH, 2.3)
    panels = figure.subplots(1, max(len(buckets), 1), squeeze=False)[0]
    for axes, (resolution, counts) in zip(panels, buckets.items(), strict=False):
        names = sorted(counts, key=_aspect, reverse=True)
        axes.bar(names, [counts[name] for name in names], color=theme.accent, width=0.7)
        axes.set_title(resolution)
        axes.set_xlabel("height × width")
        axes.tick_params(axis="x", rotation=60 if len(names) > 4 else 0, length=0)
        axes.grid(axis="y")
    panels[0].set_ylabel("samples")
    return figure


def score_chart(scores: Mapping[str, tuple[float, int]], theme: Theme) -> Figure:
    """Horizontal bars: share of correct pictures in each category, with its 95% interval, on an axis from 0 to 1.

    Args:
        scores: category -> (share of correct pictures, pictures).
        theme: of the figure.
    """
    figure = new_figure(CHART_WIDTH, 0.5 + 0.26 * max(len(scores), 1))
    axes = figure.subplots()
    names, values = list(scores), [share for share, _ in scores.values()]
    axes.barh(names, [1.0] * len(names), color=theme.rule, height=0.55)
    axes.barh(names, values, color=theme.accent, height=0.55)
    for row, (share, num) in enumerate(scores.values()):
        low, high = interval(share, num)
        axes.plot([low, high], [row, row], color=theme.ink, linewidth=1.2, solid_capstyle="butt")
        axes.text(1.015, row, with_margin(share, num), va="center", color=theme.ink, fontsize=9, fontweight="bold")
    axes.set_xlim(0, 1.2)
    _bare(axes)
    return figure


def _horizontal_bars(axes: Axes, names: Sequence[str], counts: Sequence[int], color: str, theme: Theme) -> None:
    """Bars with their number at the end instead of an axis."""
    axes.barh(names, counts, color=color, height=0.62)
    longest = max(counts, default=1)
    for row, count in enumerate(counts):
        axes.text(count + 0.01 * longest, row, f"{count:,}", va="center", color=theme.ink, fontsize=8)
    axes.set_xlim(0, 1.1 * longest)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.invert_yaxis()
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])


def _aspect(bucket: str) -> float:
    """Width over height of `<height>x<width>`."""
    height, width = bucket.split("x")
    return int(width) / int(height)


def _loss_ceiling(curves: Sequence[LossCurve]) -> float:
    """Top of the loss axis: the first steps of an untrained model may leave the picture, the rest may not."""
    values = np.concatenate([np.asarray(curve.losses) for curve in curves])
    return float(1.15 * np.quantile(values, 0.98))
