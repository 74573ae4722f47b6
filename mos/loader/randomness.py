"""The random draws of one training sample: a function of seed, epoch and position in the plan, of nothing else.

Each draw has its own counter-based stream (Philox), so it does not depend on the world size, on padding, on the
other samples of the batch, on how much another draw consumed, or on where a run was resumed.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MAX_POSITION = 2**40
"""Places of one epoch; with the epoch above them they fill the second word of the key."""


class Purpose(IntEnum):
    """Purpose of a random stream."""

    NOISE = 0
    TIMESTEP = 1
    CAPTION_DROPOUT = 2
    EXPLORATION = 3


@dataclass(frozen=True)
class SampleKey:
    """Owner of a random stream."""

    seed: int
    """In [0, 2^64)."""
    epoch: int
    """In [0, 2^24)."""
    position: int
    """step * batch_size + column: the sample's position in the epoch's plan."""

    def stream(self, purpose: Purpose) -> np.random.Generator:
        """The sample's generator for one purpose; equal keys give equal streams."""
        assert 0 <= self.position < MAX_POSITION
        key = np.array([self.seed, self.epoch * MAX_POSITION + self.position], dtype=np.uint64)
        counter = np.array([0, 0, 0, purpose], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


def draw_noise(key: SampleKey, shape: tuple[int, ...]) -> Float[Tensor, "channels h w"]:
    """Standard normal z1."""
    return torch.from_numpy(key.stream(Purpose.NOISE).standard_normal(shape, dtype=np.float32))


def draw_uniform(key: SampleKey) -> float:
    """The uniform number in [0, 1) that the timestep is made from."""
    return float(key.stream(Purpose.TIMESTEP).random())


def drops_caption(key: SampleKey, share: float) -> bool:
    """True if the sample's context is replaced by the null context, for a share of all samples."""
    return bool(key.stream(Purpose.CAPTION_DROPOUT).random() < share)


@dataclass(frozen=True)
class ExplorationRule:
    """Epsilon-greedy exploration of the router (paper section 3.2)."""

    num_blocks: int
    """n, generation blocks."""
    num_layers: int
    """m, routable layers."""
    top_k: int
    epsilon: float
    """Share of (token, block) pairs that take random layers."""

    def draw(self, key: SampleKey, num_tokens: int) -> tuple[Bool[Tensor, "ctx block"], Int[Tensor, "ctx block k"]]:
        """Mask of the positions that explore, and k distinct layers in 0..m-1 for every position."""
        stream = key.stream(Purpose.EXPLORATION)
        take = stream.random((num_tokens, self.num_blocks)) < self.epsilon
        scores = stream.random((num_tokens, self.num_blocks, self.num_layers), dtype=np.float32)
        layers = np.argsort(scores, axis=-1, kind="stable")[..., : self.top_k]
        return torch.from_numpy(take), torch.from_numpy(np.ascontiguousarray(layers))
