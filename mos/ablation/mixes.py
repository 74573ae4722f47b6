"""Figures of trained mixes in; their order, a table, a picture and the chosen ratios out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mos.ablation.mixing import Mix, MixConfig, inline_table
from mos.ablation.paired import SURE, Paired, paired
from mos.ablation.results import CaseFigures
from mos.evaluation.theme import Theme, new_figure

WIDTH = 9.0
"""Inches of the figure."""


@dataclass(frozen=True)
class MixResult:
    """What one mix came to."""

    name: str
    ratios: Mix
    losses: dict[str, float]
    """Source -> held-out loss, mean over the seeds."""
    score: float
    """Mean over the sources, by their goal, of the loss over the lowest that any mix has there: 1 is best at all."""
    right: float | None
    """Share of right pictures; None where none were drawn."""
    behind: Paired | None
    """Score minus that of the chosen mix over the seeds; None for the chosen one, and with one seed."""

    @property
    def shares(self) -> Mix:
        """The ratios, adding up to 1."""
        total = sum(self.ratios.values())
        return {source: ratio / total for source, ratio in self.ratios.items()}

    @property
    def is_surely_behind(self) -> bool:
        """True if the chosen mix is better by more than chance between seeds."""
        return self.behind is not None and self.behind.mean > 0 and self.behind.p < SURE

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def rank(config: MixConfig, cases: Sequence[CaseFigures]) -> list[MixResult]:
    """Every mix, the lowest score first."""
    mixes, weights = config.mixes(), config.weights()
    own = {name: [case for case in cases if case.variant == name] for name in mixes}
    losses = {
        name: {source: float(np.mean([case.by_source[source] for case in found])) for source in mixes[name]}
        for name, found in own.items()
    }
    best = {source: min(held[source] for held in losses.values()) for source in config.sources}

    def score(held: Mapping[str, float]) -> float:
        return sum(weight * held[source] / best[source] for source, weight in weights.items())

    by_seed = {name: {case.seed: score(case.by_source) for case in found} for name, found in own.items()}
    order = sorted(mixes, key=lambda name: score(losses[name]))
    results = []
    for name in order:
        told = name != order[0] and len(config.seeds) > 1
        rights = [case.scores["drawn"] for case in own[name] if "drawn" in case.scores]
        results.append(
            MixResult(
                name=name,
                ratios=mixes[name],
                losses=losses[name],
                score=score(losses[name]),
                right=float(np.mean(rights)) if rights else None,
                behind=paired(by_seed[name], by_seed[order[0]]) if told else None,
            )
        )
    return results


def chosen_toml(config: MixConfig, results: Sequence[MixResult]) -> str:
    """The ratios of the best mix, as the config of the stage."""
    return f"[{config.stage}]\nsources = {inline_table(results[0].ratios)}\n"


def columns(results: Sequence[MixResult]) -> list[str]:
    """Heads of the table."""
    drawn = ["right"] if results[0].right is not None else []
    return [*results[0].ratios, *(f"loss {source}" for source in results[0].losses), "score", "behind", *drawn]


def cells(result: MixResult) -> list[str]:
    """A row of the table."""
    behind = "" if result.behind is None else f"{result.behind.mean:+.4f} (p {result.behind.p:.2f})"
    drawn = [] if result.right is None else [f"{result.right:.2f}"]
    losses = (f"{loss:.4f}" for loss in result.losses.values())
    return [*(f"{share:.0%}" for share in result.shares.values()), *losses, f"{result.score:.4f}", behind, *drawn]


def markdown(config: MixConfig, results: Sequence[MixResult]) -> str:
    """The table with a sentence about it."""
    heads = columns(results)
    lines = [
        f"Shares of the sources, held-out velocity loss by source over {len(config.seeds)} seeds, and the score: the "
        "mean over the sources of the loss over the lowest in its column. `behind`: the score minus the first one's.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(f"| {' | '.join(cells(result))} |" for result in results),
    ]
    return "\n".join(lines) + "\n"


def mixes_figure(results: Sequence[MixResult], theme: Theme) -> Figure:
    """One row a mix, the best on top: the shares of the sources, and how far each one's loss is from the lowest."""
    figure = new_figure(WIDTH, 1.2 + 0.3 * len(results))
    shares, losses = figure.subplots(1, 2, sharey=True)
    places = range(len(results))[::-1]
    left = np.zeros(len(results))
    for number, source in enumerate(results[0].ratios):
        colour = theme.series[number % len(theme.series)]
        widths = np.array([result.shares[source] for result in results])
        shares.barh(places, widths, left=left, color=colour, label=source, height=0.7)
        left += widths
        lowest = min(result.losses[source] for result in results)
        far = [100 * (result.losses[source] / lowest - 1) for result in results]
        losses.plot(far, places, "o", color=colour, markersize=5)
    losses.plot([100 * (result.score - 1) for result in results], places, "|", color=theme.ink, markersize=14)
    shares.set_title("share of the sources")
    shares.set_xlim(0, 1)
    shares.set_yticks(places, [result.name for result in results])
    losses.set_title("held-out loss above the lowest, %")
    losses.set_xlabel("dots: each source; bar: the score, by which the mixes are ordered")
    losses.grid(axis="x")
    figure.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=len(results[0].ratios))
    return figure
