"""One optimiser update: flow-matching loss of a batch, gradients of its micro batches, clipped step (Algorithm 1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mos.flow.loss import velocity_loss
from mos.flow.path import interpolate, velocity
from mos.loader.batch import Batch
from mos.training.engine import Engine


@dataclass(frozen=True)
class StepResult:
    """What one update saw, before it changed the weights."""

    loss: Float[Tensor, ""]
    """Mean over this rank's samples, on the device."""
    grad_norm: Float[Tensor, ""]
    """Global L2 norm before clipping, on the device; not finite: the update was skipped."""


def sample_losses(model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
    """Loss of each sample: squared error of the velocity at its own z_t; 0 for a sample that is left out."""
    z_t = interpolate(batch.latents, batch.noise, batch.timesteps)
    predicted = model(z_t, batch.timesteps, batch.context, reference=batch.reference, exploration=batch.exploration)
    losses = velocity_loss(predicted, velocity(batch.latents, batch.noise))
    return losses if batch.weight is None else losses * batch.weight


def update(engine: Engine, batch: Batch, lr: float, micro_batch_size: int | None = None) -> StepResult:
    """Train on one global batch, of which `batch` is this rank's share, on the CPU; nothing waits for the device.

    The gradient is that of the mean over the global batch, whatever the number of ranks and of micro batches.
    """
    total = torch.zeros((), device=engine.device)
    parts = list(batch.split(micro_batch_size))
    for number, part in enumerate(parts):
        loss = sample_losses(engine.model, part.to(engine.device)).sum() / len(batch)
        engine.backward(loss, last=number == len(parts) - 1)
        total += loss.detach()
    return StepResult(total, engine.step(lr))
