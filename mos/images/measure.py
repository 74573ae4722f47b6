"""Luma -> the scores of a picture that need no model; all on the picture reduced to `MEASURE_SIDE_PX`."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

MEASURE_SIDE_PX = 512
"""Longer side on which pictures are measured: what a model of the common resolutions sees, at a bounded cost."""


@dataclass(frozen=True)
class Measures:
    """Scores of one picture, see `mos.tables.schema.samples_schema`."""

    sharpness: float
    """Variance of the Laplacian of luma in [0, 1]."""
    contrast: float
    """Standard deviation of luma in [0, 1], so at most 0.5."""
    entropy: float
    """Bits of the 256-bin luma histogram, in [0, 8]."""


def measure(luma: UInt8[np.ndarray, "height width"]) -> Measures:
    """Sharpness, contrast and entropy of a picture."""
    counts = np.bincount(luma.ravel(), minlength=256)
    return Measures(sharpness(luma), contrast(counts), entropy(counts))


def sharpness(luma: UInt8[np.ndarray, "height width"]) -> float:
    """Variance of the four-neighbour Laplacian; 0 below 3 x 3 px."""
    if min(luma.shape) < 3:
        return 0.0
    # Integers up to 4 * 255 are exact in int16 and half the traffic of float32.
    grey = luma.astype(np.int16)
    laplacian = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
    return float(laplacian.var(dtype=np.float64)) / 255**2


def contrast(counts: np.ndarray) -> float:
    """Standard deviation of luma in [0, 1], from its 256-bin histogram."""
    levels = np.arange(256) / 255
    share = counts / counts.sum()
    mean = share @ levels
    return float(np.sqrt(share @ (levels - mean) ** 2))


def entropy(counts: np.ndarray) -> float:
    """Shannon entropy of a histogram, bits."""
    share = counts[counts > 0] / counts.sum()
    return float(abs(-(share * np.log2(share)).sum()))
