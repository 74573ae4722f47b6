"""State mixing: the weighted sums of the picked hidden states, for every generation block (paper eq. 4).

Dimension key
    token  context tokens of all samples     block  n generation blocks     dim  width of the understanding tower
"""

from jaxtyping import Float
from torch import Tensor

from mos.kernels.mix_states import mix_states
from mos.model.context import Context
from mos.model.routing import Routing


def mix_context(context: Context, routing: Routing) -> Float[Tensor, "block token dim"]:
    """S_j = sum over picks of w_ij S_i of every token, for all blocks at once."""
    unpad = context.layout.unpad
    return mix_states(context.states, unpad(routing.index), unpad(routing.picked))
