"""What a quantised table knows of its tower: mean and scale of every channel, and the channels kept aside.

Dimension key
    layer    hidden states held per token
    dim      width of the tower
    massive  channels per layer whose values are kept exactly
"""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import BFloat16, Int32
from torch import Tensor


@dataclass(frozen=True)
class Calibration:
    """Learned once from a sample of real states; part of the identity of every table written with it."""

    mean: BFloat16[Tensor, "layer dim"]
    """Subtracted from a state before it is quantised."""
    std: BFloat16[Tensor, "layer dim"]
    """Positive; divides what remains, so that the channels of a group are alike."""
    massive: Int32[Tensor, "layer massive"]
    """Channels of each layer whose values are stored as they are, ascending; `massive` may be 0."""

    def select(self, layers: list[int]) -> Self:
        """The calibration of some of the layers, by their place in this one."""
        return type(self)(self.mean[layers], self.std[layers], self.massive[layers])

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)(self.mean.to(device), self.std.to(device), self.massive.to(device))
