"""RMS norm of any width, and norm with rotary positions for queries and keys.

Dimension key
    batch  samples           seq   tokens           dim    normalised width
    heads  attention heads   hdim  width of a head  pairs  hdim / 2
"""

from jaxtyping import Float
from torch import Tensor

from mos.kernels.backend import on_gpu
from mos.kernels.rms_norm import plain

__all__ = ["norm_rope", "rms_norm"]


def rms_norm(x: Float[Tensor, "*batch dim"], weight: Float[Tensor, " dim"], eps: float) -> Float[Tensor, "*batch dim"]:
    """Scale every row to unit mean square and channel c by weight[c]; float32 inside, x's dtype outside."""
    if on_gpu(x):
        from mos.kernels.rms_norm import triton  # no dependency where there is no GPU

        return triton.rms_norm(x, weight, eps)
    return plain.rms_norm(x, weight, eps)


def norm_rope(
    x: Float[Tensor, "batch seq heads hdim"],
    weight: Float[Tensor, " hdim"],
    angles: Float[Tensor, "seq pairs"],
    eps: float,
) -> Float[Tensor, "batch seq heads hdim"]:
    """Queries or keys: norm of each head, then rotation.

    Args:
        x: heads before the norm; any strides.
        weight: norm scale of a head.
        angles: rotary angles of every token, float32; they get no gradient.
        eps: added to the mean square.
    """
    assert len(angles) == x.shape[1], "every token has its angles"
    if on_gpu(x):
        from mos.kernels.rms_norm import triton  # no dependency where there is no GPU

        return triton.norm_rope(x, weight, angles, eps)
    return plain.norm_rope(x, weight, angles, eps)
