"""One rank's share of a global batch, complete: nothing random is left to the training step.

Dimension key
    batch     this rank's samples             channels, h, w  of a latent
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
        """The same batch on a device; from pinned memory to a GPU without waiting."""
        exploration, no_wait = self.exploration, device.type == "cuda"
        return replace(
            self,
            latents=self.latents.to(device, non_blocking=no_wait),
            noise=self.noise.to(device, non_blocking=no_wait),
            timesteps=self.timesteps.to(device, non_blocking=no_wait),
            context=self.context.to(device),
            reference=None if self.reference is None else self.reference.to(device, non_blocking=no_wait),
            exploration=None if exploration is None else exploration.to(device),
        )

    def pin(self) -> "Batch":
        """The same in pinned memory, from which `to` copies without waiting."""
        exploration = self.exploration
        return replace(
            self,
            latents=self.latents.pin_memory(),
            noise=self.noise.pin_memory(),
            timesteps=self.timesteps.pin_memory(),
            context=self.context.pin(),
            reference=None if self.reference is None else self.reference.pin_memory(),
            exploration=None if exploration is None else exploration.pin(),
        )

    def split(self, size: int | None) -> Iterator["Batch"]:
        """Consecutive micro batches of `size` samples, all at once where None; cut on the CPU, not on a GPU."""
        if size is None or size >= len(self):
            yield self
            return
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def __getitem__(self, part: slice) -> "Batch":
        exploration = self.exploration
        return replace(
            self,
            latents=self.latents[part],
            noise=self.noise[part],
            timesteps=self.timesteps[part],
            context=self.context[part],
            reference=None if self.reference is None else self.reference[part],
            exploration=None if exploration is None else exploration[part],
        )
