"""The SwiGLU gate on a GPU: [gate | up] is read once forward and once backward; nothing else is saved.

Dimension key
    rows  all leading dimensions in one      hidden  hidden width of the feed-forward
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

WIDTH = 1024
"""Hidden channels a program computes: 16 bytes a thread of 4 warps, of gate and of up. Unmeasured."""


def swiglu(gate_up: Float[Tensor, "*batch two_hidden"]) -> Float[Tensor, "*batch hidden"]:
    """As `reference.swiglu`, with float32 arithmetic."""
    out: Tensor = _swiglu(gate_up)
    return out


@torch.library.custom_op("mos::swiglu", mutates_args=())
def _swiglu(gate_up: Tensor) -> Tensor:
    flat = gate_up.reshape(-1, gate_up.shape[-1]).contiguous()
    hidden = flat.shape[1] // 2
    out = torch.empty(len(flat), hidden, dtype=flat.dtype, device=flat.device)
    _kernel[_grid(len(flat), hidden)](flat, out, hidden, WIDTH=_width(hidden), num_warps=4)
    return out.view(*gate_up.shape[:-1], hidden)


@torch.library.custom_op("mos::swiglu_backward", mutates_args=())
def _swiglu_backward(grad: Tensor, gate_up: Tensor) -> Tensor:
    flat = gate_up.reshape(-1, gate_up.shape[-1]).contiguous()
    upstream = grad.reshape(-1, grad.shape[-1]).contiguous()
    hidden = upstream.shape[1]
    out = torch.empty(flat.shape, dtype=flat.dtype, device=flat.device)
    _backward_kernel[_grid(len(flat), hidden)](upstream, flat, out, hidden, WIDTH=_width(hidden), num_warps=4)
    return out.view(gate_up.shape)


@_swiglu.register_fake
def _(gate_up):
    return gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)


@_swiglu_backward.register_fake
def _(grad, gate_up):
    return gate_up.new_empty(gate_up.shape)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _grads(ctx, grad):
    return _swiglu_backward(grad, *ctx.saved_tensors)


torch.library.register_autograd("mos::swiglu", _grads, setup_context=_save)


def _width(hidden: int) -> int:
    return min(WIDTH, triton.next_power_of_2(hidden))


def _grid(rows: int, hidden: int) -> tuple[int, int]:
    return rows, triton.cdiv(hidden, _width(hidden))


@triton.jit
def _kernel(gate_up, out, hidden, WIDTH: tl.constexpr):
    """Out = gate * sigmoid(gate) * up for a stretch of one row."""
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = column < hidden
    gate = tl.load(gate_up + row * 2 * hidden + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + (row * 2 + 1) * hidden + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * hidden + column, gate * tl.sigmoid(gate) * up, mask=inside)


@triton.jit
def _backward_kernel(grad, gate_up, out, hidden, WIDTH: tl.constexpr):
    """Both gradients; silu'(x) = s + x s (1 - s) with s = sigmoid(x)."""
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = column < hidden
    gate = tl.load(gate_up + row * 2 * hidden + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + (row * 2 + 1) * hidden + column, mask=inside, other=0.0).to(tl.float32)
    upstream = tl.load(grad + row * hidden + column, mask=inside, other=0.0).to(tl.float32)
    open_share = tl.sigmoid(gate)
    silu = gate * open_share
    tl.store(out + row * 2 * hidden + column, upstream * up * (open_share + silu * (1.0 - open_share)), mask=inside)
    tl.store(out + (row * 2 + 1) * hidden + column, upstream * silu, mask=inside)
