"""Calibration of a quantised table: mean and scale of every channel, and the channels kept aside.

Dimension key
    token    tokens of the sample, of all contexts
    layer    hidden states held per token
    dim      width of the tower
    massive  channels per layer whose values are kept exactly
"""

import functools
import hashlib
from dataclasses import dataclass

import safetensors.torch
import torch
from jaxtyping import BFloat16, Float64, Int32
from torch import Tensor

MAX_MASSIVE = 4
"""Channels kept aside per layer, at most: at width 384 four take 1 % of bf16's bytes."""
MASSIVE_RATIO = 4.0
"""A channel whose deviation is this many times its layer's median is massive. Towers have a handful of such channels
whose values, a hundred times those around them, would cost their group every bit."""
LEAST_RATIO = 1 / 64
"""Deviations are at least this share of their layer's median, so that a channel that was constant in the sample does
not blow up a later value that is not."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Learned once from a sample of real states; part of the identity of every table written with it."""

    mean: BFloat16[Tensor, "layer dim"]
    """Subtracted from a state before it is quantised."""
    std: BFloat16[Tensor, "layer dim"]
    """Positive; divides what remains, so that the channels of a group are alike."""
    massive: Int32[Tensor, "layer massive"]
    """Channels of each layer whose values are stored as they are, ascending; `massive` may be 0."""

    def select(self, layers: list[int] | slice) -> "Calibration":
        """The calibration of some of the layers, by their place in this one; equal lists give the same object."""
        if isinstance(layers, slice):
            return type(self)(self.mean[layers], self.std[layers], self.massive[layers])
        return _of_layers(self, tuple(layers))

    def to(self, device: torch.device | str) -> "Calibration":
        """The same on another device, where it is copied once."""
        device = torch.device(device)
        return self if self.mean.device == device else _on(self, device)

    def to_bytes(self) -> bytes:
        """A safetensors blob: equal calibrations give equal bytes."""
        return safetensors.torch.save({"mean": self.mean, "std": self.std, "massive": self.massive})

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Calibration":
        """Inverse of `to_bytes`; equal bytes give the same object."""
        return _from_bytes(blob)

    def is_finite(self) -> bool:
        """True if every mean and deviation is a number."""
        return bool(self.mean.isfinite().all() and self.std.isfinite().all())

    @property
    def digest(self) -> str:
        """sha256 of the blob, 64 hex digits."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


class CalibrationSample:
    """Sums over the states of a sample, context by context; memory does not grow with the sample."""

    def __init__(self) -> None:
        self._num_tokens = 0
        self._sum: Float64[Tensor, "layer dim"] | None = None
        self._squares: Float64[Tensor, "layer dim"] | None = None

    def add(self, states: BFloat16[Tensor, "token layer dim"]) -> None:
        """Count the tokens of one more context."""
        values = states.double()
        total, squares = values.sum(dim=0), values.square().sum(dim=0)
        self._sum = total if self._sum is None else self._sum + total
        self._squares = squares if self._squares is None else self._squares + squares
        self._num_tokens += len(states)

    def learn(self) -> Calibration:
        """Means, deviations and massive channels of what was added.

        Raises:
            ValueError: nothing was added.
        """
        if self._sum is None or self._squares is None:
            raise ValueError("a calibration is learned from at least one context")
        mean = self._sum / self._num_tokens
        std = (self._squares / self._num_tokens - mean.square()).clamp_min(0).sqrt()
        typical = std.median(dim=-1, keepdim=True).values.clamp_min(torch.finfo(torch.bfloat16).tiny)
        num_massive = min(int((std > MASSIVE_RATIO * typical).sum(dim=-1).max()), MAX_MASSIVE)
        massive = std.topk(num_massive, dim=-1).indices.sort(dim=-1).values
        floored = torch.maximum(std, LEAST_RATIO * typical)
        return Calibration(mean.bfloat16().cpu(), floored.bfloat16().cpu(), massive.int().cpu())


# A run has a few calibrations and asks for them with every context and batch. Each is made once, so that states of one
# table are known by the same object, and copied to a device once; outside inference_mode, so that autograd accepts it.
@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _from_bytes(blob: bytes) -> Calibration:
    return Calibration(**safetensors.torch.load(blob))


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _of_layers(calibration: Calibration, layers: tuple[int, ...]) -> Calibration:
    rows = list(layers)
    return Calibration(calibration.mean[rows], calibration.std[rows], calibration.massive[rows])


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _on(calibration: Calibration, device: torch.device) -> Calibration:
    return Calibration(calibration.mean.to(device), calibration.std.to(device), calibration.massive.to(device))
