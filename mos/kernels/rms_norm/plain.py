"""RMS norm and norm with rotation in torch operations, with the backward passes in closed form (README.md).

Autograd through the textbook form makes a pass and a saved tensor of every factor. Here x and one float32 number a row
are saved, and all arithmetic is float32.

Dimension key
    batch  samples           seq   tokens           dim    normalised width
    heads  attention heads   hdim  width of a head  pairs  hdim / 2
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def rms_norm(x: Float[Tensor, "*batch dim"], weight: Float[Tensor, " dim"], eps: float) -> Float[Tensor, "*batch dim"]:
    """As `reference.rms_norm`."""
    out: Tensor = _RMSNorm.apply(x, weight, eps)
    return out


def norm_rope(
    x: Float[Tensor, "batch seq heads hdim"],
    weight: Float[Tensor, " hdim"],
    angles: Float[Tensor, "seq pairs"],
    eps: float,
) -> Float[Tensor, "batch seq heads hdim"]:
    """As `reference.norm_rope`."""
    out: Tensor = _NormRope.apply(x, weight, angles, eps)
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed = _wide_copy(x)
        inverse = _inverse_rms(normed, eps)
        ctx.save_for_backward(x, weight, inverse)
        return normed.mul_(inverse).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        normed, wide_grad = _wide_copy(x).mul_(inverse), _wide_copy(grad)
        product = (wide_grad * normed).flatten(0, -2)
        slope = (product @ weight.to(product.dtype)[:, None]).view(inverse.shape).div_(-x.shape[-1])
        grad_x = wide_grad.mul_(weight).addcmul_(normed, slope).mul_(inverse)
        return grad_x.to(x.dtype), product.sum(0).to(weight.dtype), None


class _NormRope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, angles: Tensor, eps: float) -> Tensor:
        normed = _wide_copy(x)
        inverse = _inverse_rms(normed, eps)
        ctx.save_for_backward(x, weight, angles, inverse)
        normed.mul_(inverse).mul_(weight)
        _turn_(normed, angles.cos(), angles.sin())
        return normed.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight, angles, inverse = ctx.saved_tensors
        normed, wide_grad = _wide_copy(x).mul_(inverse), _wide_copy(grad)
        _turn_(wide_grad, angles.cos(), -angles.sin())
        product = wide_grad * normed
        grad_weight = product.sum((0, 1, 2)).to(weight.dtype)
        slope = product.mul_(weight).mean(-1, keepdim=True).neg_()
        grad_x = wide_grad.mul_(weight).addcmul_(normed, slope).mul_(inverse)
        return grad_x.to(x.dtype), grad_weight, None, None


def _wide_copy(x: Tensor) -> Tensor:
    """A contiguous copy in float32 (float64 stays), free to be written to."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.to(wide, copy=True, memory_format=torch.contiguous_format)


def _inverse_rms(wide: Tensor, eps: float) -> Float[Tensor, "*batch 1"]:
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return norm.square_().div_(wide.shape[-1]).add_(eps).rsqrt_()


def _turn_(x: Float[Tensor, "batch seq heads hdim"], cos: Tensor, sin: Tensor) -> None:
    """Rotate every channel pair in place."""
    cos, sin = cos[:, None], sin[:, None]
    first, second = x.chunk(2, dim=-1)
    turned = (first * cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(first, sin)
    first.copy_(turned)
