"""The velocity loss of one sample under noises and timesteps that are the same for every sample.

What tells two samples apart is then the samples alone. A sample is measured by itself, all its timesteps as one forward
pass: the value depends on no other sample, so it is the same to the last bit for any number of workers, any cut of the
work, and wherever it went on after a stop.

Dimension key
    channels, h, w  of a latent
"""

from enum import StrEnum
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from mos.loader.batch import Batch
from mos.loader.randomness import SampleKey, draw_noise
from mos.model.context import Context
from mos.model.mos import MoS
from mos.states.packed import PackedStates, concatenate
from mos.training.loop import sample_losses

SEED = 2**63 + 13
"""Of the noises; no training and no held-out loss draws from it."""


class LeftOut(StrEnum):
    """Reason why a sample has no loss."""

    NO_STATES = "no_states"
    """The hidden states of its context, or of the null context, are in no table."""
    NO_LATENT = "no_latent"
    """The latent of its image, or of its reference, is in no table."""
    STATES_NOT_FINITE = "states_not_finite"
    """Some of its hidden states are no number, or their row is damaged."""
    LATENT_NOT_FINITE = "latent_not_finite"
    """Some of its latent, or of its reference's, is no number."""
    LOSS_NOT_FINITE = "loss_not_finite"
    """The model's answer is no number."""


def fixed_timesteps(num: int) -> Float[Tensor, " num"]:
    """The midpoints of so many equal parts of (0, 1), where 1 is noise."""
    return (torch.arange(num) + 0.5) / num


@lru_cache(maxsize=32)
def fixed_noise(num: int, shape: tuple[int, int, int]) -> Float[Tensor, "num channels h w"]:
    """Standard normal z1 for each timestep, the same for every latent of a shape; not to be written to."""
    return torch.stack([draw_noise(SampleKey(SEED, 0, number), shape) for number in range(num)])


@torch.inference_mode()
def measure_sample(
    model: MoS,
    latent: Float[Tensor, "channels h w"],
    states: PackedStates,
    reference: Float[Tensor, "channels h w"] | None,
    num_timesteps: int,
) -> float | LeftOut:
    """Mean loss (paper eq. 1) over the timesteps, or why there is none.

    Args:
        model: in evaluation mode, on its device; explores nothing.
        latent: z0, on the CPU.
        states: of the sample's context alone, on the CPU.
        reference: clean latent of the image to edit.
        num_timesteps: see `LossesConfig`.
    """
    if not states.is_finite():
        return LeftOut.STATES_NOT_FINITE
    if not latent.isfinite().all() or (reference is not None and not reference.isfinite().all()):
        return LeftOut.LATENT_NOT_FINITE
    batch = Batch(
        epoch=0,
        step=0,
        latents=latent.expand(num_timesteps, *latent.shape),
        noise=fixed_noise(num_timesteps, (latent.shape[0], latent.shape[1], latent.shape[2])),
        timesteps=fixed_timesteps(num_timesteps),
        context=Context.of(concatenate([states] * num_timesteps)),
        reference=None if reference is None else reference.expand(num_timesteps, *reference.shape),
    )
    loss = sample_losses(model, batch.to(model.patch_in.weight.device)).double().mean().item()
    return loss if torch.tensor(loss).isfinite() else LeftOut.LOSS_NOT_FINITE
