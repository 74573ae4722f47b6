"""Classifier-free guidance on velocities, and its rescaling (paper appendix B.6)."""

import torch
from jaxtyping import Float
from torch import Tensor


def guide(
    conditional: Float[Tensor, " batch *rest"], unconditional: Float[Tensor, " batch *rest"], scale: float
) -> Float[Tensor, " batch *rest"]:
    """v_u + scale (v_c - v_u); scale 1 is the conditional velocity, the paper uses 5.0 to 7.5."""
    return unconditional + scale * (conditional - unconditional)


def rescale(
    guided: Float[Tensor, " batch *rest"], conditional: Float[Tensor, " batch *rest"], phi: float
) -> Float[Tensor, " batch *rest"]:
    """Bring the guided velocity back to the conditional one's standard deviation (Lin et al. 2024, eq. 15-16).

    A guided velocity without any spread, as an untrained model gives, stays as it is.

    Args:
        guided: velocity after guidance.
        conditional: velocity of the prompt alone.
        phi: share of the correction in [0, 1]; 0 changes nothing.
    """
    dims = tuple(range(1, guided.ndim))
    spread = guided.std(dim=dims, keepdim=True)
    ratio = torch.where(spread > 0, conditional.std(dim=dims, keepdim=True) / spread, 1.0)
    return guided * (phi * ratio + (1 - phi))
