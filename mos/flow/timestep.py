"""Densities of the training timestep: uniform draws in, timesteps out (paper appendix A).

Every sampler is a deterministic map of one uniform number, so a sample's timestep depends on its own draw alone.
t in [0, 1], 0 = data, 1 = noise.
"""

import math
from typing import Annotated, Literal, assert_never

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mos.config import StrictConfig


class UniformTimesteps(StrictConfig):
    """t = u."""

    type: Literal["uniform"] = "uniform"


class LogitNormalTimesteps(StrictConfig):
    """t = sigmoid(mean + std n), n standard normal: stage 1."""

    type: Literal["logit_normal"] = "logit_normal"
    mean: float = 0.0
    """Location in logit space; positive moves weight to noise."""
    std: float = Field(1.0, gt=0)
    """Scale in logit space."""


class ModeTimesteps(StrictConfig):
    """Mode sampling with heavy tails, then a resolution shift towards noise: stage 2 and later."""

    type: Literal["mode"] = "mode"
    scale: float = Field(0.8, ge=-1.0, le=2 / (math.pi - 2))
    """s of f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u); within these bounds f is monotone."""
    shift: float = Field(3.0, gt=0)
    """a of t' = a t / (1 + (a - 1) t); above 1 moves weight to noise."""


TimestepConfig = Annotated[UniformTimesteps | LogitNormalTimesteps | ModeTimesteps, Field(discriminator="type")]


def timesteps(
    config: UniformTimesteps | LogitNormalTimesteps | ModeTimesteps, u: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Map uniform draws u in (0, 1) to timesteps in [0, 1] distributed as the config says."""
    match config:
        case UniformTimesteps():
            return u
        case LogitNormalTimesteps(mean=mean, std=std):
            return torch.sigmoid(mean + std * torch.special.ndtri(u.double())).to(u.dtype)
        case ModeTimesteps(scale=scale, shift=shift):
            return shift_towards_noise(mode(u, scale), shift)
        case _:
            assert_never(config)


def mode(u: Float[Tensor, " batch"], scale: float) -> Float[Tensor, " batch"]:
    """Mode density f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u) (Esser et al. 2024, eq. 20); maps (0, 1) onto (1, 0)."""
    return 1 - u - scale * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)


def shift_towards_noise(t: Float[Tensor, " batch"], shift: float) -> Float[Tensor, " batch"]:
    """Resolution shift t' = a t / (1 + (a - 1) t) (Esser et al. 2024, eq. 23); keeps 0 and 1."""
    return shift * t / (1 + (shift - 1) * t)
