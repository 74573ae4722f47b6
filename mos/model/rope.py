"""Rotary positions along one or more axes (image rows and columns; context index in the router).

Dimension key
    seq   tokens     axes  position axes     pairs  half the head width
"""

import torch
from jaxtyping import Float
from torch import Tensor

BASE = 100.0
"""Longest wavelength over 2 pi, in positions: grids are 8 to 64 tokens a side, so the 10,000 of language models would
leave most channels without a turn (RoPE-ViT, Heo et al. 2024, uses 100 too)."""


def image_positions(height: int, width: int, device: torch.device) -> Float[Tensor, "seq 2"]:
    """Row and column of every token of a height x width grid, centred at zero so that sizes share a frame."""
    rows = torch.arange(height, device=device, dtype=torch.float32) - (height - 1) / 2
    columns = torch.arange(width, device=device, dtype=torch.float32) - (width - 1) / 2
    return torch.cartesian_prod(rows, columns).view(-1, 2)


def rotary_angles(positions: Float[Tensor, "seq axes"], head_dim: int) -> Float[Tensor, "seq pairs"]:
    """Angle of every pair of channels; each axis gets an equal share of the pairs, the rest stays unrotated."""
    pairs = head_dim // 2
    per_axis = pairs // positions.shape[1]
    powers = torch.arange(per_axis, device=positions.device, dtype=torch.float32) / per_axis
    angles = (positions[:, :, None] * BASE**-powers).flatten(1)
    return torch.nn.functional.pad(angles, (0, pairs - angles.shape[1]))
