"""Sizes of hidden states, by which the context is normed.

Dimension key
    token   context tokens of a batch
    layers  m + 1 hidden states, 0 = embedding
    dim     width of the understanding tower
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mos.states.packed import PackedStates
from mos.states.quantise import dequantise

EPS = 1e-6
"""Added to the mean square, so that a state of zeros stays zero."""


def inverse_rms(states: Float[Tensor, "token layers dim"] | PackedStates) -> Float[Tensor, "token layers"]:
    """1 / rms of every hidden state; quantised ones are dequantised a layer at a time, so that none is held whole."""
    if isinstance(states, Tensor):
        return _inverse_rms(states)
    if states.format == "bf16":
        return _inverse_rms(states.codes)
    one = (dequantise(states.select(slice(layer, layer + 1))) for layer in range(states.num_layers))
    return torch.cat([_inverse_rms(layer) for layer in one], dim=1)


def _inverse_rms(states: Float[Tensor, "token layers dim"]) -> Float[Tensor, "token layers"]:
    norm = torch.linalg.vector_norm(states, dim=-1, dtype=torch.promote_types(states.dtype, torch.float32))
    return (norm.square() / states.shape[-1] + EPS).rsqrt()
