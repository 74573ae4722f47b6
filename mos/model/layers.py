"""The parts both transformers are made of: norms, feed-forward, attention, timestep embedding.

Dimension key
    batch  samples            seq   tokens of a sequence      kv    tokens that give keys and values
    heads  attention heads    hdim  width of a head           dim   width of the residual stream
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (Zhang and Sennrich 2019)."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Normalised x; the mean square is taken in float32."""
        return functional.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class SwiGLU(nn.Module):
    """Gated feed-forward: down(silu(gate x) * up x)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim"]:
        """Same shape as x."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(functional.silu(gate) * up)


def split_heads(x: Float[Tensor, "batch seq dim"], num_heads: int) -> Float[Tensor, "batch heads seq hdim"]:
    """Cut the width into heads."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def attend(
    q: Float[Tensor, "batch heads seq hdim"],
    k: Float[Tensor, "batch heads kv hdim"],
    v: Float[Tensor, "batch heads kv hdim"],
    mask: Bool[Tensor, "batch kv"] | None,
) -> Float[Tensor, "batch seq dim"]:
    """Softmax attention of every query over the keys whose mask is True; heads are joined again."""
    bias = None if mask is None else mask[:, None, None, :]
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return out.transpose(1, 2).flatten(2)


def timestep_embedding(t: Float[Tensor, " batch"], dim: int) -> Float[Tensor, "batch dim"]:
    """Sinusoids of 1000 t at geometric frequencies from 1 to 1/10000 (Ho et al. 2020), in float32; t in [0, 1]."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = 1000.0 * t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
