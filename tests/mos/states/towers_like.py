"""States as towers give them: channels of unequal mean and scale, and, in a few of them, massive activations."""

import torch

from mos.states.calibration import Calibration, CalibrationSample


def random_states(
    num_tokens: int, num_layers: int = 3, dim: int = 96, massive: tuple[int, ...] = (), seed: int = 0
) -> torch.Tensor:
    """bf16 [num_tokens, num_layers, dim]; the first token holds values near 1000 in the massive channels."""
    fixed = torch.Generator().manual_seed(0)
    mean = torch.randn(num_layers, dim, generator=fixed)
    scale = torch.rand(num_layers, dim, generator=fixed) + 0.2
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(num_tokens, num_layers, dim, generator=generator) * scale + mean
    for channel in massive:
        states[0, :, channel] = 1000 + 50 * torch.randn(num_layers, generator=generator)
    return states.bfloat16()


def learn(*contexts: torch.Tensor) -> Calibration:
    """The calibration of a sample of contexts."""
    sample = CalibrationSample()
    for states in contexts:
        sample.add(states)
    return sample.learn()
