"""Exponential moving average of the weights, in fp32, sharded as the weights are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mos.training.engine import Engine
from mos.training.local import local


class Ema:
    """The average after `num_updates` updates: average += (1 - decay) (weights - average)."""

    def __init__(self, weights: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.average = {name: tensor.detach().clone() for name, tensor in weights.items()}
        """Tensors of the layout of `weights`."""

    def update(self, weights: dict[str, Tensor]) -> None:
        """Follow one optimiser update, also one that was skipped and left the weights as they are.

        The decay of update n is at most (1 + n) / (10 + n): the average forgets its start within a few updates, and
        an average carried on from an earlier stage keeps what it has.
        """
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        followed = [local(weights[name]) for name in self.average]
        torch._foreach_lerp_([local(tensor) for tensor in self.average.values()], followed, 1 - decay)

    @contextmanager
    def swapped_into(self, engine: Engine) -> Iterator[None]:
        """The engine's model carries the average inside the block, and its own weights again after it. Collective."""
        weights = engine.weights()
        self._swap(weights)
        engine.sync()
        try:
            yield
        finally:
            self._swap(weights)
            engine.sync()

    @torch.no_grad()
    def _swap(self, weights: dict[str, Tensor]) -> None:
        for name, average in self.average.items():
            mine, theirs = local(average), local(weights[name])
            kept = mine.clone()
            mine.copy_(theirs)
            theirs.copy_(kept)
