"""From noise to a latent: guided Euler integration of the model's velocity (paper Algorithm 2, Appendix B.6).

Dimension key
    batch  pictures of one size        c, h, w  latent channels and grid
    pair   2 * batch: the conditional half, then the unconditional half
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mos.flow.guidance import guide, rescale
from mos.flow.path import velocity_to_data
from mos.flow.solver import integrate, linear_quadratic_schedule, linear_schedule
from mos.model.context import Context
from mos.model.mos import MoS
from mos.sampling.config import SamplerConfig


@dataclass(frozen=True)
class DenoisingStep:
    """One step of the solver, before its update."""

    number: int
    """0 at the noise."""
    t: float
    """In [0, 1], 1 = noise."""
    z_t: Float[Tensor, "batch c h w"]
    z0: Float[Tensor, "batch c h w"]
    """Where the velocity points: the picture that the model has in mind at t."""


def time_schedule(sampler: SamplerConfig) -> Float[Tensor, " steps_plus_1"]:
    """Timesteps from 1 (noise) to 0 (data), both ends included."""
    match sampler.schedule:
        case "linear":
            return linear_schedule(sampler.steps)
        case "linear_quadratic":
            return linear_quadratic_schedule(sampler.steps)


def seeded_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Float[Tensor, "batch c h w"]:
    """Standard normal noise, each picture's from its own seed alone; drawn on the CPU, so equal on every device."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.inference_mode()
def denoise(
    model: MoS,
    noise: Float[Tensor, "batch c h w"],
    context: Context,
    sampler: SamplerConfig,
    *,
    reference: Float[Tensor, "batch c h w"] | None = None,
    on_step: Callable[[DenoisingStep], None] | None = None,
) -> Float[Tensor, "batch c h w"]:
    """Integrate from noise at t = 1 to data at t = 0.

    Args:
        model: in evaluation mode, on the device of all tensors.
        noise: z at t = 1.
        context: one per picture; with guidance above 1 a pair, the conditional half first.
        sampler: steps, schedule and guidance.
        reference: clean latents of the pictures to edit.
        on_step: called at every step before its update.
    """
    guided = sampler.guidance > 1
    if reference is not None and guided:
        reference = torch.cat([reference, reference])

    def field(z: Tensor, t: float) -> Tensor:
        inputs = torch.cat([z, z]) if guided else z
        velocity = model(inputs, _times(inputs, t), context, reference=reference)
        return guided_velocity(velocity, sampler) if guided else velocity

    def report(number: int, z: Tensor, v: Tensor, t: float) -> None:
        if on_step is not None:
            on_step(DenoisingStep(number, t, z, velocity_to_data(z, v, _times(z, t))))

    return integrate(field, noise, time_schedule(sampler), report)


def guided_velocity(pair: Float[Tensor, "pair c h w"], sampler: SamplerConfig) -> Float[Tensor, "batch c h w"]:
    """Classifier-free guidance, then the share of rescaling that the sampler asks for."""
    conditional, unconditional = pair.chunk(2)
    guided = guide(conditional, unconditional, sampler.guidance)
    if sampler.guidance_rescale == 0:
        return guided
    return rescale(guided, conditional, sampler.guidance_rescale)


def _times(z: Float[Tensor, "batch c h w"], t: float) -> Float[Tensor, " batch"]:
    return torch.full((len(z),), t, device=z.device)
