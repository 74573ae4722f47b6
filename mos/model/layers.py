"""The parts both transformers are made of: norms, feed-forward, timestep embedding.

Dimension key
    batch  samples            seq   tokens of a sequence      dim   width of the residual stream
    heads  attention heads    hdim  width of a head           pairs hdim / 2
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mos.kernels.rms_norm import norm_rope, rms_norm
from mos.kernels.swiglu import swiglu


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (Zhang and Sennrich 2019)."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Normalised x; the mean square is taken in float32."""
        return rms_norm(x, self.weight, self.eps)


class SwiGLU(nn.Module):
    """Gated feed-forward: down(silu(gate x) * up x)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim"]:
        """Same shape as x."""
        return self.down(swiglu(self.gate_up(x)))


def norm_and_rotate(
    x: Float[Tensor, "batch seq dim"], norm: RMSNorm, angles: Float[Tensor, "seq pairs"]
) -> Float[Tensor, "batch seq heads hdim"]:
    """Queries or keys from their projection: cut into heads, normed, rotated by the angles of their tokens."""
    heads = x.unflatten(-1, (-1, len(norm.weight)))
    return norm_rope(heads, norm.weight, angles, norm.eps)


def timestep_embedding(t: Float[Tensor, " batch"], dim: int) -> Float[Tensor, "batch dim"]:
    """Sinusoids of 1000 t at geometric frequencies from 1 to 1/10000 (Ho et al. 2020), in float32; t in [0, 1]."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = 1000.0 * t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
