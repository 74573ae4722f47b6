"""The training objective: squared error of the velocity (paper eq. 1)."""

from jaxtyping import Float
from torch import Tensor


def velocity_loss(
    predicted: Float[Tensor, " batch *rest"], target: Float[Tensor, " batch *rest"]
) -> Float[Tensor, " batch"]:
    """Mean squared error of each sample, in float32; the training loss is its mean over the batch."""
    return (predicted.float() - target.float()).square().flatten(1).mean(dim=1)
