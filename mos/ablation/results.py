"""Figures of the trained variants in, verdicts on the comparisons out: as data, as a table, as a figure."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mos.ablation.config import AblateConfig, Comparison
from mos.ablation.paired import Paired, paired
from mos.evaluation.theme import Theme, new_figure

WIDTH = 8.2
"""Inches of the figure."""


@dataclass(frozen=True)
class CaseFigures:
    """What one variant of one seed came to."""

    variant: str
    seed: int
    loss: float
    """Held-out velocity loss, paper eq. 1."""
    scores: dict[str, float]
    """Sampler -> mean of the categories' shares of right pictures; empty where nothing can be checked."""
    distances: dict[str, float]
    """Sampler -> Fréchet distance from pictures of the same prompts; empty as the scores are."""
    num_params: int
    seconds: float
    """Of training."""
    by_source: dict[str, float] = field(default_factory=dict)
    """Source -> held-out loss on its samples."""


@dataclass(frozen=True)
class Verdict:
    """A comparison and what was measured: differences of `better` minus `worse`."""

    comparison: Comparison
    loss: Paired | None
    """None where the two sides are one variant under two samplers."""
    score: Paired | None
    """None where no pictures were checked."""
    distance: Paired | None
    """The same."""

    def figures(self) -> Iterator[tuple[str, Paired | None, bool]]:
        """Each difference with its name, and whether the lower one is the better one."""
        yield "loss", self.loss, True
        yield "score", self.score, False
        yield "distance", self.distance, True

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the directions in words."""
        found: dict[str, Any] = self.comparison.model_dump()
        for name, result, lower in self.figures():
            found[name] = None if result is None else asdict(result) | {"direction": result.direction(lower)}
        return found


def judge(config: AblateConfig, cases: Sequence[CaseFigures]) -> list[Verdict]:
    """Every comparison of the config, over the seeds that were trained."""
    losses: dict[str, dict[int, float]] = {}
    scores: dict[tuple[str, str], dict[int, float]] = {}
    distances: dict[tuple[str, str], dict[int, float]] = {}
    for case in cases:
        losses.setdefault(case.variant, {})[case.seed] = case.loss
        for found, figures in ((scores, case.scores), (distances, case.distances)):
            for sampler, figure in figures.items():
                found.setdefault((case.variant, sampler), {})[case.seed] = figure
    verdicts = []
    for comparison in config.comparisons:
        better, worse = config.parts(comparison.better), config.parts(comparison.worse)
        loss = paired(losses[better[0]], losses[worse[0]]) if better[0] != worse[0] else None
        score, distance = (
            paired(found[better], found[worse]) if better in found and worse in found else None
            for found in (scores, distances)
        )
        verdicts.append(Verdict(comparison, loss, score, distance))
    return verdicts


def markdown(config: AblateConfig, cases: Sequence[CaseFigures], verdicts: Sequence[Verdict]) -> str:
    """Two tables: the variants, and the comparisons with their intervals and p-values."""
    names = (*config.samplers, *config.further_samplers)
    samplers = [name for name in names if any(name in case.scores for case in cases)]
    lines = [
        "Held-out velocity loss; share of right pictures and, behind it, Fréchet distance from drawn ones, by sampler: "
        f"mean and standard deviation over {len(config.seeds)} seeds.",
        "",
        "| variant | parameters | held-out loss | " + " | ".join(samplers) + (" |" if samplers else ""),
        "|---" * (3 + len(samplers)) + "|",
    ]
    for name in config.variants:
        own = [case for case in cases if case.variant == name]
        shown = [_spread([case.loss for case in own], 4)]
        for sampler in samplers:
            if sampler not in own[0].scores:
                shown.append("")
                continue
            score = _spread([case.scores[sampler] for case in own], 3)
            distance = _spread([case.distances[sampler] for case in own], 2)
            shown.append(f"{score}, {distance}")
        lines.append(f"| {name} | {own[0].num_params / 1e6:.2f}M | {' | '.join(shown)} |")
    lines += [
        "",
        "Differences, the variant that the paper prefers minus the other, by seed; ± is half the 95% interval.",
        "",
        "| the paper says | where | preferred | other | loss | p | direction | score | p | direction | distance | p | "
        "direction |",
        "|---" * 13 + "|",
    ]
    for verdict in verdicts:
        said = verdict.comparison
        parts = [said.claim, said.source, said.better, said.worse]
        for (_, result, lower), digits in zip(verdict.figures(), (4, 3, 2), strict=True):
            parts += _told(result, lower, digits)
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def _told(result: Paired | None, better_is_lower: bool, digits: int) -> list[str]:
    if result is None:
        return ["", "", ""]
    told = f"{result.mean:+.{digits}f} ± {result.half_width:.{digits}f}"
    return [told, f"{result.p:.3f}", result.direction(better_is_lower)]


def comparisons_figure(verdicts: Sequence[Verdict], theme: Theme) -> Figure:
    """Differences with their 95% intervals, one row a comparison, turned so that the paper's choice is better on the
    right: held-out loss, and share of right pictures where any were checked.
    """
    panels: dict[str, list[tuple[Paired | None, bool]]] = {
        "held-out loss, less by": [(verdict.loss, True) for verdict in verdicts],
        "right pictures, more by": [(verdict.score, False) for verdict in verdicts],
    }
    shown = {title: rows for title, rows in panels.items() if any(result for result, _ in rows)}
    figure = new_figure(WIDTH, 1.0 + 0.28 * len(verdicts))
    colours = {"agrees": theme.good, "disagrees": theme.bad, "cannot be told": theme.muted}
    every = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, (title, rows) in zip(every, shown.items(), strict=True):
        for row, (result, lower) in enumerate(reversed(rows)):
            if result is not None:
                colour, better = colours[result.direction(lower)], -result.mean if lower else result.mean
                axes.errorbar(better, row, xerr=result.half_width, fmt="o", color=colour, capsize=3, markersize=4)
        axes.axvline(0.0, color=theme.ink, linewidth=0.8)
        axes.set_title(title)
        axes.grid(axis="x")
    names = [f"{verdict.comparison.better} over {verdict.comparison.worse}" for verdict in reversed(verdicts)]
    every[0].set_yticks(range(len(verdicts)), names)
    every[0].set_ylim(-0.6, len(verdicts) - 0.4)
    figure.supxlabel(
        "right of 0 the paper's choice is better; grey: cannot be told at p < 0.05", fontsize=8, color=theme.muted
    )
    return figure
