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

from mos.kernels.rms_norm import norm_rope, rms_norm
from mos.kernels.swiglu import swiglu

EXPLICIT_SCORES = 2**18
"""Largest queries x keys for which a CPU attends explicitly in bfloat16: 12 ms against 38 ms of SDPA, forward and
backward, at 32 x 4 heads of 68 x 82 on one AMD EPYC core; SDPA's CPU backward has no bfloat16 matmul."""


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
    x: Float[Tensor, "batch seq dim"],
    norm: RMSNorm,
    angles: Float[Tensor, "rot pairs"],
    tail_norm: RMSNorm | None = None,
) -> Float[Tensor, "batch heads seq hdim"]:
    """Queries or keys from their projection: cut into heads, normed, rotated.

    Args:
        x: projected tokens; those behind the first `rot` are context.
        norm: norm of a head of the first `rot` tokens.
        angles: rotary angles of the first `rot` tokens.
        tail_norm: norm of a head of the context tokens, which are not rotated; None: there are none.
    """
    heads = x.unflatten(-1, (-1, len(norm.weight)))
    tail_weight = None if tail_norm is None else tail_norm.weight
    return norm_rope(heads, norm.weight, tail_weight, angles, norm.eps).transpose(1, 2)


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
    keep = None if mask is None else mask[:, None, None, :]
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] * k.shape[2] <= EXPLICIT_SCORES:
        out = _explicit_attention(q, k, v, keep)
    else:
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)
    return out.transpose(1, 2).flatten(2)


def _explicit_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
    """Scores, softmax, sum: the textbook form, with the scores held in memory."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if keep is not None:
        scores = scores.masked_fill(~keep, float("-inf"))
    return torch.softmax(scores, dim=-1) @ v


def timestep_embedding(t: Float[Tensor, " batch"], dim: int) -> Float[Tensor, "batch dim"]:
    """Sinusoids of 1000 t at geometric frequencies from 1 to 1/10000 (Ho et al. 2020), in float32; t in [0, 1]."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = 1000.0 * t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
