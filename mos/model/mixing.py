"""State mixing: the weighted sum of the picked hidden states (paper eq. 4).

Dimension key
    batch  samples      ctx  context tokens      layers  m + 1 hidden states, 0 = embedding
    k      picks        dim  width of the understanding tower
"""

from jaxtyping import Float, Int
from torch import Tensor


def mix_states(
    states: Float[Tensor, "batch ctx layers dim"],
    index: Int[Tensor, "batch ctx k"],
    weights: Float[Tensor, "batch ctx k"],
) -> Float[Tensor, "batch ctx dim"]:
    """S_j = sum over picks of w_ij S_i for one block: gathers k rows a token, never touches the other layers.

    `index` counts routable layers from 0, so layer i of it is entry i + 1 of `states`.
    """
    rows = (index + 1)[..., None].expand(-1, -1, -1, states.shape[-1])
    picked = states.gather(2, rows)  # b ctx k dim
    return (weights[..., None].to(picked.dtype) * picked).sum(dim=2)
