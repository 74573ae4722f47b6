"""Loss by quantising, layer by layer, and the bound beyond which a table is not written.

Dimension key
    token  tokens of one context
    layer  hidden states held per token
    dim    width of the tower
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

import torch
from jaxtyping import BFloat16
from pydantic import Field
from torch import Tensor

from mos.config import StrictConfig
from mos.errors import UserError
from mos.states.packed import FormatName, PackedStates
from mos.states.quantise import dequantise

OUTLIER = 8.0
"""Deviations at which whitened values are cut for the norms, so that one massive value, however exact, does not hide
what its neighbours lost."""


class QualityBound(StrictConfig):
    """Bound on the error of states read from a table, against the tower's own."""

    max_whitened_error: float = Field(default=0.12, gt=0)
    """Of every layer: norm of the error over norm of the states, both less the mean and by the deviation of each
    channel, so that no channel counts more than another."""
    min_cosine: float = Field(default=0.99, ge=-1, le=1)
    """Of every row (one token at one layer): cosine between what is read and what was written."""


@dataclass(frozen=True)
class LayerQuality:
    """Sums over the rows of one layer; those of several samples add up."""

    error: float
    """Squared norm of the differences."""
    norm: float
    """Squared norm of the states."""
    whitened_error: float
    """As `error`, in channels of unit deviation."""
    whitened_norm: float
    """As `norm`, in channels of mean zero and unit deviation."""
    min_cosine: float
    """Worst row."""

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.error + other.error,
            self.norm + other.norm,
            self.whitened_error + other.whitened_error,
            self.whitened_norm + other.whitened_norm,
            min(self.min_cosine, other.min_cosine),
        )

    @property
    def relative(self) -> float:
        """Norm of the error over norm of the states."""
        return math.sqrt(self.error / self.norm) if self.norm else 0.0

    @property
    def whitened(self) -> float:
        """The same in channels of mean zero and unit deviation."""
        return math.sqrt(self.whitened_error / self.whitened_norm) if self.whitened_norm else 0.0


@dataclass(frozen=True)
class QualityReport:
    """Error of a quantised format over a sample of contexts."""

    layers: tuple[int, ...]
    """Hidden states of the tower that the table holds."""
    qualities: tuple[LayerQuality, ...]
    """One for each of them."""

    def __add__(self, other: Self) -> Self:
        pairs = zip(self.qualities, other.qualities, strict=True)
        return type(self)(self.layers, tuple(one + two for one, two in pairs))

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        return json.dumps({"layers": self.layers, "qualities": [asdict(quality) for quality in self.qualities]})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`."""
        tree = json.loads(text)
        return cls(tuple(tree["layers"]), tuple(LayerQuality(**quality) for quality in tree["qualities"]))

    def lines(self) -> list[str]:
        """One line a layer, for a terminal."""
        return [
            f"layer {layer}: relative error {quality.relative:.2%}, whitened {quality.whitened:.2%}, "
            f"minimum cosine {quality.min_cosine:.4f}"
            for layer, quality in zip(self.layers, self.qualities, strict=True)
        ]


def measure_quality(
    states: BFloat16[Tensor, "token layer dim"], packed: PackedStates, layers: tuple[int, ...]
) -> QualityReport:
    """Compare states with what their packed form stands for.

    Args:
        states: of the layers held.
        packed: the same, quantised with a calibration.
        layers: which hidden states of the tower they are.
    """
    assert packed.calibration is not None, "bf16 loses nothing"
    mean, std = packed.calibration.mean.float(), packed.calibration.std.float()
    original, read = states.float(), dequantise(packed).float()
    white = _whiten(original, mean, std)
    cosine = torch.nn.functional.cosine_similarity(original, read, dim=-1)
    # A row of zeros has no direction: it is read as zeros or its whole error shows in the norms.
    cosine = torch.where(original.any(dim=-1), cosine, 1.0)
    columns = [
        _per_layer(read - original),
        _per_layer(original),
        _per_layer(_whiten(read, mean, std) - white),
        _per_layer(white),
        cosine.amin(dim=0).tolist(),
    ]
    return QualityReport(layers, tuple(LayerQuality(*values) for values in zip(*columns, strict=True)))


def violation(report: QualityReport, bound: QualityBound) -> str | None:
    """The first layer worse than the bound, with its value and the setting it breaks; None where all are well."""
    for layer, quality in zip(report.layers, report.qualities, strict=True):
        if not quality.whitened <= bound.max_whitened_error:
            limit = f"above encode.quality.max_whitened_error = {bound.max_whitened_error}"
            return f"layer {layer} has a whitened error of {quality.whitened:.4f}, {limit}"
        if not quality.min_cosine >= bound.min_cosine:
            limit = f"below encode.quality.min_cosine = {bound.min_cosine}"
            return f"layer {layer} has a row of cosine {quality.min_cosine:.4f}, {limit}"
    return None


def check_quality(report: QualityReport, bound: QualityBound, format: FormatName) -> None:
    """Raise `UserError` where a layer is worse than the bound; names layer, value, bound and what to do."""
    found = violation(report, bound)
    if found is not None:
        better = "bf16" if format == "int8" else "int8"
        raise UserError(f"{format} states: {found}; set encode.state_format = '{better}', or loosen the bound")


def total(reports: Iterable[QualityReport]) -> QualityReport | None:
    """All reports as one; None where there is none."""
    whole: QualityReport | None = None
    for report in reports:
        whole = report if whole is None else whole + report
    return whole


def _whiten(states: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return ((states - mean) / std).clamp(-OUTLIER, OUTLIER)


def _per_layer(values: Tensor) -> list[float]:
    return values.double().square().sum(dim=(0, 2)).tolist()
