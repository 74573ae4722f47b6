"""A rival of the router: every context token attends over its own layers, with a query for each block.

Dimension key
    batch  samples       ctx    context tokens        token  context tokens of all samples
    layer  m understanding layers                     block  n generation blocks
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mos.model.context import Context
from mos.states.packed import PackedStates
from mos.states.quantise import dequantise


class LayerAttention(nn.Module):
    """Logits over layers from the hidden states themselves; neither latent nor timestep is seen."""

    def __init__(self, *, dim: int, state_dim: int, num_blocks: int) -> None:
        super().__init__()
        self.key = nn.Linear(state_dim, dim, bias=False)
        self.queries = nn.Parameter(torch.zeros(num_blocks, dim))

    def forward(self, context: Context) -> Float[Tensor, "batch ctx layer block"]:
        """q_j . K S_i / rms(S_i) / sqrt(dim) of every token, layer i and block j."""
        routed = slice(1, None)
        packed = context.states
        states = dequantise(packed.select(routed)) if isinstance(packed, PackedStates) else packed[:, routed]
        unit = states * context.inverse_rms[:, :, None]
        keys = self.key(unit.to(self.key.weight.dtype))
        return context.layout.pad(keys @ self.queries.mT * self.queries.shape[1] ** -0.5)
