"""State mixing: the weighted sums of the picked hidden states, for every generation block (paper eq. 4).

Dimension key
    batch  samples      ctx  context tokens      layers  m + 1 hidden states, 0 = embedding
    block  n generation blocks     k  picks      dim     width of the understanding tower
"""

from jaxtyping import Float
from torch import Tensor

from mos.kernels.mix_states import mix_states
from mos.model.context import Context
from mos.model.routing import Routing


def mix_context(context: Context, routing: Routing) -> Float[Tensor, "block batch ctx dim"]:
    """S_j = sum over picks of w_ij S_i of every token, for all blocks at once; what no block picks stays unread."""
    mixed = mix_states(context.states.flatten(0, 1), routing.index.flatten(0, 1), routing.picked.flatten(0, 1))
    return mixed.unflatten(1, context.mask.shape)
