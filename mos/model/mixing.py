"""State mixing: the weighted sums of the picked hidden states, for every generation block (paper eq. 4).

Dimension key
    batch  samples      ctx  context tokens      layers  m + 1 hidden states, 0 = embedding
    block  n generation blocks     k  picks      dim     width of the understanding tower
"""

from jaxtyping import Float
from torch import Tensor

from mos.kernels.mix_states import mix_states
from mos.model.context import Context, RaggedContext
from mos.model.routing import Routing


def mix_context(context: Context | RaggedContext, routing: Routing) -> Float[Tensor, "block batch ctx dim"]:
    """S_j = sum over picks of w_ij S_i of every token, for all blocks at once; what no block picks stays unread."""
    index, weights = routing.index.flatten(0, 1), routing.picked.flatten(0, 1)
    match context:
        case Context():
            return mix_states(context.states.flatten(0, 1), index, weights).unflatten(1, context.mask.shape)
        case RaggedContext():
            return context.pad(mix_states(context.packed, index[context.rows], weights[context.rows]))
