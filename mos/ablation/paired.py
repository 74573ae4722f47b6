"""Paired differences over seeds: how large, how sure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t
from scipy.stats import ttest_rel

SURE = 0.05
"""Largest p-value at which a direction counts as told."""


@dataclass(frozen=True)
class Paired:
    """Difference of two variants, first minus second, over the seeds that both have."""

    mean: float
    half_width: float
    """Half the 95% interval of `mean`, by Student's t."""
    p: float
    """Two-sided p-value of the paired t-test against no difference."""
    num: int
    """Seeds."""

    def direction(self, better_is_lower: bool) -> str:
        """`agrees` where the first is better and p is small, `disagrees` where the second is, else `cannot be told`."""
        if not self.p < SURE:
            return "cannot be told"
        return "agrees" if (self.mean < 0) == better_is_lower else "disagrees"


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired:
    """Compare figures by seed.

    Args:
        first: seed -> figure.
        second: the same of the variant it is compared with; seeds that only one has are left out.

    Raises:
        ValueError: fewer than two seeds are common.
    """
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < 2:
        raise ValueError(f"a paired difference needs two seeds or more, and only {seeds} are common to both")
    differences = np.array([first[seed] - second[seed] for seed in seeds])
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(seeds))
    reach = float(student_t.ppf(0.975, len(seeds) - 1)) * error
    if error == 0:  # the test has no answer: all seeds say the same
        return Paired(mean, 0.0, 1.0 if mean == 0 else 0.0, len(seeds))
    p = float(ttest_rel([first[seed] for seed in seeds], [second[seed] for seed in seeds]).pvalue)
    return Paired(mean, reach, p, len(seeds))
