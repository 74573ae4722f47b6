"""Contexts for the GPU's measurements."""

import torch

from mos.model.context import Context, ContextLayout
from mos.model.mos import ModelConfig

CONTEXT_TOKENS = 200


def random_context(config: ModelConfig, batch_size: int, device: torch.device) -> Context:
    """Contexts of one length, with random states as a tower gives them."""
    offsets = CONTEXT_TOKENS * torch.arange(batch_size + 1)
    shape = (int(offsets[-1]), config.state_layers + 1, config.state_dim)
    states = torch.randn(shape, device=device, dtype=torch.bfloat16)
    return Context(states, ContextLayout.of(offsets).to(device))
