"""The gate of the SwiGLU feed-forward: [gate | up] in, silu(gate) * up out.

Dimension key
    two_hidden  [gate | up], twice the hidden width     hidden  hidden width of the feed-forward
"""

from jaxtyping import Float
from torch import Tensor

from mos.kernels.backend import on_gpu
from mos.kernels.swiglu import reference

__all__ = ["swiglu"]


def swiglu(gate_up: Float[Tensor, "*batch two_hidden"]) -> Float[Tensor, "*batch hidden"]:
    """silu(gate) * up of the two halves of the last dimension."""
    if on_gpu(gate_up):
        from mos.kernels.swiglu import triton  # no dependency where there is no GPU

        return triton.swiglu(gate_up)
    return reference.swiglu(gate_up)
