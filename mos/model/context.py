"""What the generation side is told: hidden states of the understanding tower, for ragged contexts in one batch.

Dimension key
    batch  samples
    ctx    context tokens, padded to the longest of the batch
    layers m + 1 hidden states: index 0 is the tower's input embedding, 1..m its layers
    dim    width of the understanding tower
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Context:
    """All hidden states of a batch of contexts (paper eq. 2)."""

    states: Float[Tensor, "batch ctx layers dim"]
    """Index 0 of `layers` is the router's view, 1..m can be routed. Padding holds zeros."""
    mask: Bool[Tensor, "batch ctx"]
    """True at real tokens."""

    @classmethod
    def pad(cls, states: list[Float[Tensor, "_ layers dim"]]) -> "Context":
        """Stack ragged samples, padding with zeros behind the last token of each."""
        lengths = torch.tensor([len(sample) for sample in states])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return cls(torch.nn.utils.rnn.pad_sequence(states, batch_first=True), mask)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Context":
        """Move to a device and, where given, cast the states."""
        return Context(self.states.to(device, dtype), self.mask.to(device))
