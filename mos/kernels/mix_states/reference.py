"""State mixing as the paper writes it (eq. 4): the weighted sum of the picked hidden states.

Dimension key
    token   context tokens of a batch      layers  m + 1 hidden states, 0 = embedding
    block   generation blocks              k       picks of one token for one block
    dim     width of the understanding tower
"""

from jaxtyping import Float, Int
from torch import Tensor


def mix_states(
    states: Float[Tensor, "token layers dim"],
    index: Int[Tensor, "token block k"],
    weights: Float[Tensor, "token block k"],
) -> Float[Tensor, "block token dim"]:
    """S_j = sum over picks of w_ij S_i, for every block j; `index` counts from the first layer behind the embedding."""
    num_blocks = index.shape[1]
    rows = (index + 1).flatten(1)[..., None].expand(-1, -1, states.shape[-1])
    picked = states.gather(1, rows).unflatten(1, (num_blocks, -1))  # token block k dim
    return (weights[..., None].to(picked.dtype) * picked).sum(dim=2).transpose(0, 1)
