"""One rank's share of a global batch, complete: nothing random is left to the training step.

Dimension key
    batch     this rank's samples             ctx     context tokens, padded to the longest of the share
    channels, h, w  of a latent               layers  m + 1 hidden states, 0 = embedding
    block, k  see mos.model.routing
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mos.model.context import Context
from mos.model.routing import Exploration


@dataclass(frozen=True)
class Batch:
    """Everything that the loss of these samples depends on, besides the weights."""

    epoch: int
    step: int
    """Place of the global batch in its epoch."""
    latents: Float[Tensor, "batch channels h w"]
    """Data z0."""
    noise: Float[Tensor, "batch channels h w"]
    """z1."""
    timesteps: Float[Tensor, " batch"]
    """In [0, 1], 0 = data, 1 = noise."""
    context: Context
    """Hidden states of the caption, or of the null context where it was dropped."""
    reference: Float[Tensor, "batch channels h w"] | None = None
    """Clean latent of the image to edit."""
    exploration: Exploration | None = None
    """Epsilon-greedy draws."""

    def __len__(self) -> int:
        return len(self.latents)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        reference = None if self.reference is None else self.reference.to(device)
        exploration = self.exploration
        if exploration is not None:
            exploration = Exploration(exploration.take.to(device), exploration.layers.to(device))
        return Batch(
            self.epoch,
            self.step,
            self.latents.to(device),
            self.noise.to(device),
            self.timesteps.to(device),
            self.context.to(device),
            reference,
            exploration,
        )

    def split(self, size: int | None) -> Iterator["Batch"]:
        """Consecutive micro batches of `size` samples; all at once where None."""
        step = size or len(self)
        for start in range(0, len(self), step):
            yield self[start : start + step]

    def __getitem__(self, part: slice) -> "Batch":
        exploration = self.exploration
        if exploration is not None:
            exploration = Exploration(exploration.take[part], exploration.layers[part])
        return Batch(
            self.epoch,
            self.step,
            self.latents[part],
            self.noise[part],
            self.timesteps[part],
            Context(self.context.states[part], self.context.mask[part]),
            None if self.reference is None else self.reference[part],
            exploration,
        )
