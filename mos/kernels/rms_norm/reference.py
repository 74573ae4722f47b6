"""RMS norm, and its fusion with rotary positions, as the papers write them.

Dimension key
    batch  samples           seq   tokens           dim    normalised width
    heads  attention heads   hdim  width of a head  pairs  hdim / 2
"""

import torch
from jaxtyping import Float
from torch import Tensor


def rms_norm(x: Float[Tensor, "*batch dim"], weight: Float[Tensor, " dim"], eps: float) -> Float[Tensor, "*batch dim"]:
    """Scale every row to unit mean square: x / rms(x) * weight (Zhang and Sennrich 2019), in float32."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * weight).to(x.dtype)


def rotate(
    x: Float[Tensor, "*batch seq heads hdim"], angles: Float[Tensor, "seq pairs"]
) -> Float[Tensor, "*batch seq heads hdim"]:
    """Turn each channel pair (i, i + pairs) of every head by the angle of its token (Su et al. 2021)."""
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)


def norm_rope(
    x: Float[Tensor, "batch seq heads hdim"],
    weight: Float[Tensor, " hdim"],
    angles: Float[Tensor, "seq pairs"],
    eps: float,
) -> Float[Tensor, "batch seq heads hdim"]:
    """Queries or keys: norm of each head, then rotation.

    Args:
        x: heads before the norm.
        weight: norm scale of a head.
        angles: one angle a pair, for every token.
        eps: added to the mean square.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return rotate(rms_norm(wide, weight, eps), angles).to(x.dtype)
