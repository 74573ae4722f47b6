"""Scores with their 95% intervals; pictures of one prompt are not independent, prompts are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95


@dataclass(frozen=True)
class Score:
    """A mean over prompts, in the unit of the benchmark's table."""

    value: float
    margin: float | None
    """Half the 95% interval; None where the results do not tell."""
    num: int
    """Prompts that it is of."""

    def scaled(self, factor: float) -> "Score":
        """The same in another unit."""
        return Score(self.value * factor, None if self.margin is None else self.margin * factor, self.num)

    def in_words(self, digits: int) -> str:
        """Value and margin: "0.72 ± 0.05"."""
        told = f"{self.value:.{digits}f}"
        return told if self.margin is None else f"{told} ± {self.margin:.{digits}f}"


@dataclass(frozen=True)
class Scores:
    """What a scorer found, by category."""

    categories: Mapping[str, Score]
    overall: Score
    note: str = ""
    """What is to be known before these are set beside others."""
    comparable: bool = True
    """Whether they were taken as the published ones were."""
    details: Mapping[str, Score] = field(default_factory=dict)
    """Further scores, which no table has room for."""


def share(right: Sequence[Sequence[bool]]) -> Score:
    """Share of right pictures, given those of each prompt: Wilson's interval at the effective number of pictures.

    That number is the one at which independent pictures would vary as the prompts' means do (Dean and Pagano 2015); at
    shares of 0 and 1, which tell nothing of it, the number of prompts.
    """
    sizes = np.array([len(pictures) for pictures in right], float)
    hits = np.array([sum(pictures) for pictures in right], float)
    value, total, prompts = float(hits.sum() / sizes.sum()), float(sizes.sum()), len(right)
    independent = float(prompts)
    if 0 < value < 1 and prompts > 1:
        variance = prompts / (prompts - 1) * float(((hits - value * sizes) ** 2).sum()) / total**2
        independent = total if variance == 0 else min(total, value * (1 - value) / variance)
    return Score(value, _wilson(value, independent), prompts)


def mean(values: Sequence[float]) -> Score:
    """Mean of one figure a prompt, with Student's interval; a single one has none."""
    figures = np.asarray(values, float)
    num = len(figures)
    margin = None if num < 2 else float(t.ppf((1 + LEVEL) / 2, num - 1) * figures.std(ddof=1) / np.sqrt(num))
    return Score(float(figures.mean()), margin, num)


def weighted(scores: Sequence[Score], weights: Sequence[float] | None = None) -> Score:
    """Sum of independent scores by weights that sum to 1; by default all weigh alike."""
    shares = [1 / len(scores)] * len(scores) if weights is None else weights
    margins = [score.margin for score in scores]
    known = [margin for margin in margins if margin is not None]
    spread = float(np.linalg.norm(np.multiply(known, shares))) if len(known) == len(margins) else None
    value = sum(score.value * part for score, part in zip(scores, shares, strict=True))
    return Score(float(value), spread, sum(score.num for score in scores))


def _wilson(value: float, num: float) -> float:
    """Half the width of Wilson's interval of a share of `num` independent pictures."""
    z = float(norm.ppf((1 + LEVEL) / 2))
    return float(z / (1 + z**2 / num) * np.sqrt(value * (1 - value) / num + z**2 / (4 * num**2)))
