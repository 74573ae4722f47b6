"""The gate of the SwiGLU feed-forward: [gate | up] in, silu(gate) * up out."""

from mos.kernels.swiglu.reference import swiglu

__all__ = ["swiglu"]
