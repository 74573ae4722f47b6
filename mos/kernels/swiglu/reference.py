"""The gate of the SwiGLU feed-forward (Shazeer 2020). Also the path without a GPU: see Tried in CHANGELOG.md.

Dimension key
    two_hidden  [gate | up], twice the hidden width     hidden  hidden width of the feed-forward
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def swiglu(gate_up: Float[Tensor, "*batch two_hidden"]) -> Float[Tensor, "*batch hidden"]:
    """silu(gate) * up of the two halves of the last dimension."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up
