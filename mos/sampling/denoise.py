"""From noise to a latent: guided Euler integration of the model's velocity (paper Algorithm 2, Appendix B.6).

Dimension key
    batch  pictures of one size        c, h, w  latent channels and grid
    pair   2 * batch: the conditional half, then the unconditional half
"""

from collections.abc import Callable
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

    def field(z: Tensor, t: float) -> Tensor:
        return velocity(model, z, t, context, reference, sampler.guidance, sampler.guidance_rescale)

    def report(number: int, z: Tensor, v: Tensor, t: float) -> None:
        if on_step is not None:
            on_step(DenoisingStep(number, t, z, velocity_to_data(z, v, _times(z, t))))

    return integrate(field, noise, time_schedule(sampler), report)


def velocity(
    model: MoS,
    z: Float[Tensor, "batch c h w"],
    t: float,
    context: Context,
    reference: Float[Tensor, "batch c h w"] | None,
    guidance: float,
    guidance_rescale: float,
) -> Float[Tensor, "batch c h w"]:
    """Velocity at (z, t): the conditional model's, with guidance above 1 the guided one of a pair."""
    if guidance <= 1:
        return model(z, _times(z, t), context, reference=reference)
    references = None if reference is None else torch.cat([reference, reference])
    inputs = torch.cat([z, z])
    pair = model(inputs, _times(inputs, t), context, reference=references)
    return guided_velocity(pair, guidance, guidance_rescale)


def guided_velocity(
    pair: Float[Tensor, "pair c h w"], guidance: float, guidance_rescale: float
) -> Float[Tensor, "batch c h w"]:
    """Classifier-free guidance, then the share of rescaling that is asked for."""
    conditional, unconditional = pair.chunk(2)
    guided = guide(conditional, unconditional, guidance)
    if guidance_rescale == 0:
        return guided
    return rescale(guided, conditional, guidance_rescale)


def _times(z: Float[Tensor, "batch c h w"], t: float) -> Float[Tensor, " batch"]:
    return torch.full((len(z),), t, device=z.device)
