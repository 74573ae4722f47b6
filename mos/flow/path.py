"""The straight path between data and noise, and its velocity (paper section 3.1, eq. 1).

The one convention of the project: t = 0 is data, t = 1 is noise, and the velocity points from data to noise.
Every tensor here has any trailing shape; `t` broadcasts over all but the batch dimension.
"""

from jaxtyping import Float
from torch import Tensor


def interpolate(
    z0: Float[Tensor, " batch *rest"], z1: Float[Tensor, " batch *rest"], t: Float[Tensor, " batch"]
) -> Float[Tensor, " batch *rest"]:
    """Noised latent z_t = (1 - t) z0 + t z1, t in [0, 1]."""
    t = _expand(t, z0)
    return (1 - t) * z0 + t * z1


def velocity(z0: Float[Tensor, " batch *rest"], z1: Float[Tensor, " batch *rest"]) -> Float[Tensor, " batch *rest"]:
    """Target velocity v = dz_t/dt = z1 - z0, the same at every t."""
    return z1 - z0


def velocity_to_data(
    z_t: Float[Tensor, " batch *rest"], v: Float[Tensor, " batch *rest"], t: Float[Tensor, " batch"]
) -> Float[Tensor, " batch *rest"]:
    """The data end of the line through z_t with velocity v: z0 = z_t - t v."""
    return z_t - _expand(t, z_t) * v


def _expand(t: Tensor, like: Tensor) -> Tensor:
    return t.view(-1, *[1] * (like.ndim - 1))
