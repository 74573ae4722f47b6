"""State mixing in torch operations, for any device: reads the picked rows alone, holds no layer twice.

Dimension key
    token   context tokens of a batch      layers  m + 1 hidden states, 0 = embedding
    block   generation blocks              k       picks of one token for one block
    dim     width of the understanding tower
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mos.states.packed import PackedStates
from mos.states.quantise import dequantise

TOKENS_AT_ONCE = 64
"""Tokens whose layers are dequantised together: 8 MiB of float32 at 33 layers of 1024."""


def mix_dense(
    states: Float[Tensor, "token layers dim"],
    index: Int[Tensor, "token block k"],
    weights: Float[Tensor, "token block k"],
) -> Float[Tensor, "block token dim"]:
    """As `reference.mix_states`; one bag of k rows for every (block, token)."""
    num_tokens, num_layers, _ = states.shape
    first = torch.arange(1, num_tokens * num_layers, num_layers, device=states.device)
    rows = (index.transpose(0, 1) + first[:, None]).flatten(0, 1)
    bag_weights = weights.transpose(0, 1).flatten(0, 1).to(states.dtype)
    mixed = functional.embedding_bag(rows, states.flatten(0, 1), mode="sum", per_sample_weights=bag_weights)
    return mixed.unflatten(0, (-1, num_tokens))


def mix_packed(
    packed: PackedStates, index: Int[Tensor, "token block k"], weights: Float[Tensor, "token block k"]
) -> Float[Tensor, "block token dim"]:
    """As `mix_dense` of the dequantised states, which exist for a few tokens at a time."""
    if packed.format == "bf16":
        return mix_dense(packed.codes, index, weights)
    out: Tensor = _MixPacked.apply(packed, index, weights)
    return out


class _MixPacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed: PackedStates, index: Tensor, weights: Tensor) -> Tensor:
        ctx.packed = packed
        ctx.save_for_backward(index, weights)
        parts = [
            mix_dense(dequantise(_tokens(packed, rows)), index[rows], weights[rows]) for rows in _slices(len(index))
        ]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor]:
        index, weights = ctx.saved_tensors
        grads = torch.empty_like(weights)
        for rows in _slices(len(index)):
            states = dequantise(_tokens(ctx.packed, rows)).to(grad.dtype)
            by_layer = grad[:, rows].transpose(0, 1) @ states.transpose(1, 2)  # token block layers
            grads[rows] = by_layer.gather(2, index[rows] + 1).to(grads.dtype)
        return None, None, grads


def _slices(num_tokens: int) -> list[slice]:
    return [slice(start, start + TOKENS_AT_ONCE) for start in range(0, num_tokens, TOKENS_AT_ONCE)]


def _tokens(packed: PackedStates, rows: slice) -> PackedStates:
    """Some of the tokens; what context they are of does not matter here."""
    return packed.tokens(rows.start, rows.stop, packed.offsets)
