"""State mixing (paper eq. 4) over tokens of any number of contexts, of bf16, int8 or int4 states, for many blocks.

Dimension key
    token   context tokens of a batch      layers  m + 1 hidden states, 0 = embedding
    block   generation blocks              k       picks of one token for one block
    dim     width of the understanding tower
"""

from jaxtyping import Float, Int
from torch import Tensor

from mos.kernels.backend import on_gpu
from mos.kernels.mix_states.plain import mix_dense, mix_packed
from mos.states.packed import PackedStates

__all__ = ["mix_states"]


def mix_states(
    states: Float[Tensor, "token layers dim"] | PackedStates,
    index: Int[Tensor, "token block k"],
    weights: Float[Tensor, "token block k"],
) -> Float[Tensor, "block token dim"]:
    """S_j = sum over picks of w_ij S_i for every block j; gradients reach the weights alone, the tower is frozen.

    Args:
        states: all hidden states of every token, one context after the other; finite, since on a GPU a picked row
            that is not spoils its token in all blocks.
        index: picked layers, 0 is the first behind the embedding.
        weights: weight of each pick.

    Returns:
        In the dtype of the states; bf16 for packed ones.
    """
    if on_gpu(index):
        from mos.kernels.mix_states.triton import mix_states as mix_on_gpu  # no dependency where there is no GPU

        packed = states if isinstance(states, PackedStates) else PackedStates("bf16", index.new_empty(0), states)
        return mix_on_gpu(packed, index, weights)
    if isinstance(states, PackedStates):
        return mix_packed(states, index, weights)
    return mix_dense(states, index, weights)
