"""Pictures for codecs."""

import torch


def pictures(*shape: int) -> torch.Tensor:
    """Noise, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
