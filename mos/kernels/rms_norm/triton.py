"""RMS norm and norm with rotation on a GPU: one pass over memory forward, one backward (README.md).

The backward passes recompute 1 / rms from x, which they read anyway. Each program walks over many rows and keeps its
part of the weight's gradient in registers; a last sum over programs finishes it.

Dimension key
    rows   all leading dimensions in one      dim    normalised width
    batch  samples      seq    tokens         heads  attention heads
    hdim   width of a head                    pairs  hdim / 2
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

TILE = 4096
"""Values a program holds of x at once: 32 registers a thread of 4 warps. Unmeasured."""
PROGRAMS_PER_MULTIPROCESSOR = 8
"""Programs of the backward pass; each adds a row of partial sums of the weight's gradient. Unmeasured."""


def rms_norm(x: Float[Tensor, "*batch dim"], weight: Float[Tensor, " dim"], eps: float) -> Float[Tensor, "*batch dim"]:
    """As `reference.rms_norm`."""
    out: Tensor = _norm(x, weight, eps)
    return out


def norm_rope(
    x: Float[Tensor, "batch seq heads hdim"],
    weight: Float[Tensor, " hdim"],
    angles: Float[Tensor, "seq pairs"],
    eps: float,
) -> Float[Tensor, "batch seq heads hdim"]:
    """As `reference.norm_rope`; sines are taken in the kernel, once a token for all heads."""
    out: Tensor = _rope(x, weight, angles, eps)
    return out


@torch.library.custom_op("mos::rms_norm", mutates_args=())
def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    flat = _unit_stride(x).reshape(-1, x.shape[-1])
    out = torch.empty(flat.shape, dtype=x.dtype, device=x.device)
    tile = _norm_tile(flat.shape[1])
    grid = (triton.cdiv(len(flat), tile["ROWS"]),)
    _norm_kernel[grid](flat, weight.contiguous(), out, *flat.shape, flat.stride(0), eps, **tile)
    return out.view(x.shape)


@torch.library.custom_op("mos::rms_norm_backward", mutates_args=())
def _norm_backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    flat, upstream = (_unit_stride(part).reshape(-1, x.shape[-1]) for part in (x, grad))
    out = torch.empty(flat.shape, dtype=x.dtype, device=x.device)
    tile = _norm_tile(flat.shape[1])
    programs = _programs(triton.cdiv(len(flat), tile["ROWS"]), x.device)
    partial = torch.empty(programs, flat.shape[1], dtype=torch.float32, device=x.device)
    strides = (upstream.stride(0), flat.stride(0))
    _norm_backward_kernel[(programs,)](
        upstream, flat, weight.contiguous(), out, partial, *flat.shape, *strides, eps, **tile
    )
    return out.view(x.shape), partial.sum(0).to(weight.dtype)


@torch.library.custom_op("mos::norm_rope", mutates_args=())
def _rope(x: Tensor, weight: Tensor, angles: Tensor, eps: float) -> Tensor:
    x = _unit_stride(x)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    batch, seq, heads, hdim = x.shape
    _rope_kernel[(batch * seq,)](
        x, weight.contiguous(), angles.contiguous(), out, seq, heads, *x.stride()[:3], eps, PAIRS=hdim // 2,
        **_rope_tile(heads, hdim),
    )  # fmt: skip
    return out


@torch.library.custom_op("mos::norm_rope_backward", mutates_args=())
def _rope_backward(grad: Tensor, x: Tensor, weight: Tensor, angles: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    grad, x = _unit_stride(grad), _unit_stride(x)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    batch, seq, heads, hdim = x.shape
    programs = _programs(batch * seq, x.device)
    partial = torch.empty(programs, hdim, dtype=torch.float32, device=x.device)
    _rope_backward_kernel[(programs,)](
        grad, x, weight.contiguous(), angles.contiguous(), out, partial, batch * seq, seq, heads,
        *grad.stride()[:3], *x.stride()[:3], eps, PAIRS=hdim // 2, **_rope_tile(heads, hdim),
    )  # fmt: skip
    return out, partial.sum(0).to(weight.dtype)


@_norm.register_fake
def _(x, weight, eps):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@_norm_backward.register_fake
def _(grad, x, weight, eps):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty_like(weight)


@_rope.register_fake
def _(x, weight, angles, eps):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@_rope_backward.register_fake
def _(grad, x, weight, angles, eps):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty_like(weight)


def _save_norm(ctx, inputs, output):
    x, weight, ctx.eps = inputs
    ctx.save_for_backward(x, weight)


def _norm_grads(ctx, grad):
    return *_norm_backward(grad, *ctx.saved_tensors, ctx.eps), None


def _save_rope(ctx, inputs, output):
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _rope_grads(ctx, grad):
    return *_rope_backward(grad, *ctx.saved_tensors, ctx.eps), None, None


torch.library.register_autograd("mos::rms_norm", _norm_grads, setup_context=_save_norm)
torch.library.register_autograd("mos::norm_rope", _rope_grads, setup_context=_save_rope)


def _norm_tile(dim: int) -> dict[str, int]:
    width = triton.next_power_of_2(dim)
    return {"ROWS": max(1, TILE // width), "WIDTH": width, "num_warps": 4 if width <= TILE else 8}


def _rope_tile(heads: int, hdim: int) -> dict[str, int]:
    return {"HEADS": triton.next_power_of_2(heads), "WIDTH": triton.next_power_of_2(hdim // 2), "num_warps": 4}


def _programs(most: int, device: torch.device) -> int:
    """Enough to fill the device, no more than there is work for; few in the interpreter, which runs them in turn."""
    if device.type != "cuda":
        return min(most, 2)
    return min(most, PROGRAMS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count)


def _unit_stride(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


@triton.jit
def _norm_kernel(x, weight, out, num_rows, dim, stride, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Out = x / rms(x) * weight, a block of rows at a time."""
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    inside = (row[:, None] < num_rows) & (column[None, :] < dim)
    scale = tl.load(weight + column, mask=column < dim, other=0.0).to(tl.float32)
    row = row.to(tl.int64)[:, None]
    values = tl.load(x + row * stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(values * values, axis=1) / dim + eps)
    tl.store(out + row * dim + column[None, :], values * inverse[:, None] * scale[None, :], mask=inside)


@triton.jit
def _norm_backward_kernel(
    grad, x, weight, out, partial, num_rows, dim, grad_stride, stride, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """Out = (g w - n mean(g w n)) / rms with n = x / rms; partial[program] = sum of g n over the program's rows."""
    column = tl.arange(0, WIDTH)
    scale = tl.load(weight + column, mask=column < dim, other=0.0).to(tl.float32)
    scale_grad = tl.zeros([WIDTH], tl.float32)
    for first in range(tl.program_id(0) * ROWS, num_rows, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS)
        inside = (row[:, None] < num_rows) & (column[None, :] < dim)
        row = row.to(tl.int64)[:, None]
        values = tl.load(x + row * stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
        upstream = tl.load(grad + row * grad_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
        inverse = tl.rsqrt(tl.sum(values * values, axis=1) / dim + eps)[:, None]
        normed = values * inverse
        scale_grad += tl.sum(upstream * normed, axis=0)
        upstream = upstream * scale[None, :]
        slope = tl.sum(upstream * normed, axis=1)[:, None] / dim
        tl.store(out + row * dim + column[None, :], (upstream - normed * slope) * inverse, mask=inside)
    tl.store(partial + tl.program_id(0).to(tl.int64) * dim + column, scale_grad, mask=column < dim)


@triton.jit
def _rope_kernel(
    x, weight, angles, out, seq, heads, batch_stride, seq_stride, head_stride, eps,
    PAIRS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """All heads of one token: both halves of every head normalised, then turned by the token's angles."""
    token = tl.program_id(0)
    sample, position = (token // seq).to(tl.int64), token % seq
    head, pair = tl.arange(0, HEADS), tl.arange(0, WIDTH)
    inside = (head[:, None] < heads) & (pair[None, :] < PAIRS)
    at = sample * batch_stride + position * seq_stride + head[:, None] * head_stride + pair[None, :]
    first = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(x + at + PAIRS, mask=inside, other=0.0).to(tl.float32)
    inverse = tl.rsqrt((tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)) / (2 * PAIRS) + eps)[:, None]
    scale_first, scale_second = _scales(weight, pair, PAIRS)
    cos, sin = _turn(angles, position, pair, PAIRS)
    first, second = first * inverse * scale_first, second * inverse * scale_second
    at = (token.to(tl.int64) * heads + head[:, None]) * (2 * PAIRS) + pair[None, :]
    tl.store(out + at, first * cos - second * sin, mask=inside)
    tl.store(out + at + PAIRS, first * sin + second * cos, mask=inside)


@triton.jit
def _rope_backward_kernel(
    grad, x, weight, angles, out, partial, num_tokens, seq, heads,
    grad_batch, grad_seq, grad_head, batch_stride, seq_stride, head_stride, eps,
    PAIRS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Turn the gradient back, then the norm's backward; partial[program] = the gradient of the weight."""
    head, pair = tl.arange(0, HEADS), tl.arange(0, WIDTH)
    inside = (head[:, None] < heads) & (pair[None, :] < PAIRS)
    scale_first, scale_second = _scales(weight, pair, PAIRS)
    grad_first, grad_second = tl.zeros([WIDTH], tl.float32), tl.zeros([WIDTH], tl.float32)
    for token in range(tl.program_id(0), num_tokens, tl.num_programs(0)):
        sample, position = (token // seq).to(tl.int64), token % seq
        at = sample * batch_stride + position * seq_stride + head[:, None] * head_stride + pair[None, :]
        first = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(x + at + PAIRS, mask=inside, other=0.0).to(tl.float32)
        squares = tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)
        inverse = tl.rsqrt(squares / (2 * PAIRS) + eps)[:, None]
        first, second = first * inverse, second * inverse
        at = sample * grad_batch + position * grad_seq + head[:, None] * grad_head + pair[None, :]
        turned_first = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
        turned_second = tl.load(grad + at + PAIRS, mask=inside, other=0.0).to(tl.float32)
        cos, sin = _turn(angles, position, pair, PAIRS)
        flow_first = turned_first * cos + turned_second * sin
        flow_second = turned_second * cos - turned_first * sin
        grad_first += tl.sum(flow_first * first, axis=0)
        grad_second += tl.sum(flow_second * second, axis=0)
        flow_first, flow_second = flow_first * scale_first, flow_second * scale_second
        slope = tl.sum(flow_first * first, axis=1) + tl.sum(flow_second * second, axis=1)
        slope = slope[:, None] / (2 * PAIRS)
        at = ((sample * seq + position) * heads + head[:, None]) * (2 * PAIRS) + pair[None, :]
        tl.store(out + at, (flow_first - first * slope) * inverse, mask=inside)
        tl.store(out + at + PAIRS, (flow_second - second * slope) * inverse, mask=inside)
    at = partial + tl.program_id(0) * (2 * PAIRS) + pair
    tl.store(at, grad_first, mask=pair < PAIRS)
    tl.store(at + PAIRS, grad_second, mask=pair < PAIRS)


@triton.jit
def _scales(weight, pair, PAIRS: tl.constexpr):
    """The norm's scale of both halves of a head."""
    first = tl.load(weight + pair, mask=pair < PAIRS, other=0.0).to(tl.float32)
    second = tl.load(weight + PAIRS + pair, mask=pair < PAIRS, other=0.0).to(tl.float32)
    return first[None, :], second[None, :]


@triton.jit
def _turn(angles, position, pair, PAIRS: tl.constexpr):
    """Cosine and sine of a token's angles."""
    angle = tl.load(angles + position * PAIRS + pair, mask=pair < PAIRS, other=0.0)
    return tl.cos(angle)[None, :], tl.sin(angle)[None, :]
