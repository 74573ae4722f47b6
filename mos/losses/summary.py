"""Losses of the samples of a view in a few numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mos.loader.index import SampleIndex
from mos.losses.sample import LeftOut

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Spread:
    """Losses of some samples."""

    num: int
    mean: float
    quantiles: tuple[float, ...]
    """At QUANTILES."""

    @classmethod
    def of(cls, losses: np.ndarray) -> "Spread":
        """Of one loss or more."""
        return cls(len(losses), float(losses.mean()), tuple(np.quantile(losses, QUANTILES).tolist()))


@dataclass(frozen=True)
class LossSummary:
    """What was measured, and what was not."""

    every: Spread | None
    """None where no sample has a loss."""
    by_source: Mapping[str, Spread]
    left_out: Mapping[str, int]
    """Samples of the view without a loss, by `LeftOut`."""


def summarise(index: SampleIndex, measured: pa.Table) -> LossSummary:
    """Losses of a view's samples, all of which were measured.

    Args:
        index: the samples that are encoded.
        measured: MEASURED of `mos.losses.parts`, by address, of the samples of the index.
    """
    order = np.argsort(index.address)
    assert np.array_equal(index.address[order], measured["address"].to_numpy()), "every sample was measured once"
    losses, source = measured["loss"].to_numpy().astype(np.float64), index.source[order]
    has_one = np.isfinite(losses)
    spreads = {
        name: Spread.of(losses[has_one & (source == number)])
        for number, name in enumerate(index.sources)
        if (has_one & (source == number)).any()
    }
    reasons = Counter(
        {
            LeftOut.NO_STATES.value: index.num_without_states,
            LeftOut.NO_LATENT.value: index.num_left_out - index.num_without_states,
        }
    ) + Counter(measured["reason"].drop_null().to_pylist())
    every = Spread.of(losses[has_one]) if has_one.any() else None
    return LossSummary(every, spreads, dict(sorted(reasons.items())))
