"""One rank's share of a global batch, complete: nothing random is left to the training step.

Dimension key
    batch     this rank's samples             channels, h, w  of a latent
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

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
    weight: Float[Tensor, " batch"] | None = None
    """What each sample's loss counts: 0 for one that is left out and holds zeros in place of its data, else 1; None
    where all count."""

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def num_left_out(self) -> int:
        """Samples whose loss does not count; waits for the device that holds the batch."""
        return 0 if self.weight is None else int((self.weight == 0).sum())

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device; from pinned memory to a GPU without waiting."""
        no_wait = device.type == "cuda"  # towards the CPU the copy would be read before it is there
        return self._each(lambda part: part.to(device, non_blocking=no_wait))

    def pin(self) -> "Batch":
        """The same in pinned memory, from which `to` copies without waiting."""
        return self._each(lambda part: part.pin_memory())

    def split(self, num: int) -> Iterator["Batch"]:
        """Consecutive micro batches, whose sizes differ by a sample at most; cut on the CPU, not on a GPU."""
        if num == 1:
            yield self
            return
        for number in range(num):
            yield self[number * len(self) // num : (number + 1) * len(self) // num]

    def __getitem__(self, samples: slice) -> "Batch":
        return self._each(lambda part: part[samples])

    def _each(self, change: Callable[[Any], Any]) -> "Batch":
        """The same with everything that is counted by sample changed: all of it moves, is pinned and is cut alike."""
        names = ("latents", "noise", "timesteps", "context", "reference", "exploration", "weight")
        parts = {name: getattr(self, name) for name in names}
        return replace(self, **{name: change(part) for name, part in parts.items() if part is not None})


def num_micro_batches(batch_size: int, num_workers: int, micro_batch_size: int | None) -> int:
    """Micro batches of an update on each rank: as many as the largest share needs."""
    largest = -(-batch_size // num_workers)
    return 1 if micro_batch_size is None else -(-largest // micro_batch_size)
