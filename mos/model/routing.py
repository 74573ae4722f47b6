"""From logits to picks: softmax over layers, top-k, epsilon-greedy (paper section 3.2, eq. 3).

Dimension key
    batch  samples                 ctx    context tokens
    layer  m understanding layers  block  n generation blocks      k  picks of one token for one block
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """Layers that each token sends to each block, and their weights."""

    weights: Float[Tensor, "batch ctx layer block"]
    """Softmax over `layer`, before the selection."""
    index: Int[Tensor, "batch ctx block k"]
    """Picked layers, 0..m-1 (0 is the tower's first layer, not its embedding)."""
    picked: Float[Tensor, "batch ctx block k"]
    """Their softmax weights, not renormalised (eq. 4)."""


@dataclass(frozen=True)
class Exploration:
    """Epsilon-greedy draws, made outside the model so that they depend on the sample alone."""

    take: Bool[Tensor, "batch ctx block"]
    """True where random layers replace the top-k; Bernoulli(epsilon)."""
    layers: Int[Tensor, "batch ctx block k"]
    """k distinct random layers in 0..m-1."""

    def __getitem__(self, samples: slice) -> "Exploration":
        return Exploration(self.take[samples], self.layers[samples])

    def pin_memory(self) -> "Exploration":
        """The same in pinned memory."""
        return Exploration(self.take.pin_memory(), self.layers.pin_memory())

    def to(self, device: torch.device, non_blocking: bool = False) -> "Exploration":
        """Move to a device; the flag is that of `Tensor.to`."""
        take, layers = (part.to(device, non_blocking=non_blocking) for part in (self.take, self.layers))
        return Exploration(take, layers)


def route(
    logits: Float[Tensor, "batch ctx layer block"], top_k: int, exploration: Exploration | None = None
) -> Routing:
    """Normalise each block's column over the layers and keep the k heaviest, or the random ones where exploring."""
    weights = torch.softmax(logits.float(), dim=2)
    per_block = weights.transpose(2, 3)  # b ctx block layer
    index = per_block.topk(top_k, dim=-1).indices
    if exploration is not None:
        index = torch.where(exploration.take[..., None], exploration.layers, index)
    return Routing(weights, index, per_block.gather(-1, index))
