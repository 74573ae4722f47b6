"""State mixing: the weighted sums of the picked hidden states, for every generation block (paper eq. 4).

Each hidden state is brought to unit size first. The size of a sum is then that of its weights and not that of its
layers, which in a language model differ by orders of magnitude.

Dimension key
    token  context tokens of all samples     block  n generation blocks     dim  width of the understanding tower
    layer  m understanding layers            k      picks of one token for one block
"""

from jaxtyping import Float
from torch import Tensor

from mos.kernels.mix_states import mix_states
from mos.model.context import Context
from mos.model.routing import Routing


def mix_context(context: Context, routing: Routing, *, normed: bool = True) -> Float[Tensor, "block token dim"]:
    """S_j = sum over picks of w_ij S_i / rms(S_i) of every token, for all blocks at once.

    With `normed` off the states are taken as the tower gives them: keys and values, which attention meets as they are.
    """
    unpad = context.layout.unpad
    index, picked = unpad(routing.index), unpad(routing.picked)
    if not normed:
        return mix_states(context.states, index, picked)
    scale = context.inverse_rms[:, None].expand(-1, index.shape[1], -1)  # token block layer
    return mix_states(context.states, index, picked * scale.gather(2, index))
