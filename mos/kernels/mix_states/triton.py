"""State mixing on a GPU: picked rows are read once, dequantised in registers, and summed for all blocks (README.md).

All arithmetic is float32 but the product with the weights, which runs on tensor cores in bf16 for bf16 output.

Dimension key
    token   context tokens of a batch      layers  m + 1 hidden states, 0 = embedding
    block   generation blocks              k       picks of one token for one block
    dim     width of the understanding tower
"""

import os

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from mos.states.packed import GROUP, PackedStates

CHANNELS = 128
"""Channels of a tile. Unmeasured: 256-byte segments of a bf16 row, a 32 x 128 tile is 32 registers a thread."""
GATHER_CHANNELS = 1024
"""Channels that one program of the one-block kernel sums. Unmeasured."""
TOKENS = {"bf16": 1, "int8": 4, "int4": 4}
"""Tokens a program mixes: quantised ones share each loaded tile of means and scales, 4 bytes a value. Unmeasured."""

WIDEST_GROUP = max(GROUP.values())
"""A tile holds whole groups."""


def mix_states(
    packed: PackedStates, index: Int[Tensor, "token block k"], weights: Float[Tensor, "token block k"]
) -> Float[Tensor, "block token dim"]:
    """As `reference.mix_states` of the dequantised states."""
    calibration = packed.calibration
    planes = (packed.codes, packed.scales, packed.massive)
    learned = (None, None, None) if calibration is None else (calibration.mean, calibration.std, calibration.massive)
    out: Tensor = _mix(*planes, *learned, index, weights, packed.format)
    return out


@torch.library.custom_op("mos::mix_states", mutates_args=())
def _mix(
    codes: Tensor,
    scales: Tensor | None,
    massive: Tensor | None,
    mean: Tensor | None,
    std: Tensor | None,
    channels: Tensor | None,
    index: Tensor,
    weights: Tensor,
    format: str,
) -> Tensor:
    num_tokens, num_blocks, k = index.shape
    out = codes.new_empty(num_blocks, num_tokens, _dim(codes, format), dtype=_out_dtype(codes, format))
    planes = _planes(codes, scales, massive, mean, std, channels)
    shape = (num_tokens, num_blocks, codes.shape[1], out.shape[2])
    formats = _format(codes, massive, format)
    if num_blocks == 1:
        size = min(GATHER_CHANNELS, max(WIDEST_GROUP, triton.next_power_of_2(shape[3])))
        grid = (num_tokens, triton.cdiv(shape[3], size))
        _mix_one[grid](*planes, index.contiguous(), weights.contiguous(), out, *shape, **formats, K=k, CHANNELS=size)
        return out
    tokens = TOKENS[format]
    _mix_all[(triton.cdiv(num_tokens, tokens),)](
        *planes, index.contiguous(), weights.contiguous(), out, *shape, **formats, **_tile(shape), K=k, TOKENS=tokens,
        DOT=_dot_dtype(out.dtype),
    )  # fmt: skip
    return out


@torch.library.custom_op("mos::mix_states_backward", mutates_args=())
def _mix_backward(
    codes: Tensor,
    scales: Tensor | None,
    massive: Tensor | None,
    mean: Tensor | None,
    std: Tensor | None,
    channels: Tensor | None,
    index: Tensor,
    grad: Tensor,
    format: str,
) -> Tensor:
    num_tokens, num_blocks, k = index.shape
    grads = torch.empty(index.shape, device=index.device, dtype=torch.float32)
    planes = _planes(codes, scales, massive, mean, std, channels)
    shape = (num_tokens, num_blocks, codes.shape[1], _dim(codes, format))
    _mix_all_backward[(num_tokens,)](
        *planes, index.contiguous(), grad.contiguous(), grads, *shape, **_format(codes, massive, format),
        **_tile(shape), K=k, DOT=_dot_dtype(grad.dtype),
    )  # fmt: skip
    return grads


@_mix.register_fake
def _(codes, scales, massive, mean, std, channels, index, weights, format):
    shape = (index.shape[1], index.shape[0], _dim(codes, format))
    return codes.new_empty(shape, dtype=_out_dtype(codes, format))


@_mix_backward.register_fake
def _(codes, scales, massive, mean, std, channels, index, grad, format):
    return torch.empty(index.shape, device=index.device, dtype=torch.float32)


def _save(ctx, inputs, output):
    *planes_and_index, weights, format = inputs
    ctx.save_for_backward(*planes_and_index)
    ctx.format, ctx.dtype = format, weights.dtype


def _grads(ctx, grad):
    grads = _mix_backward(*ctx.saved_tensors, grad, ctx.format).to(ctx.dtype)
    return None, None, None, None, None, None, None, grads, None


torch.library.register_autograd("mos::mix_states", _grads, setup_context=_save)


def _dim(codes: Tensor, format: str) -> int:
    return codes.shape[2] * (2 if format == "int4" else 1)


def _out_dtype(codes: Tensor, format: str) -> torch.dtype:
    return codes.dtype if format == "bf16" else torch.bfloat16


def _planes(codes: Tensor, *optional: Tensor | None) -> tuple[Tensor, ...]:
    """Contiguous planes; the codes stand in for those that a format does not have and the kernel does not read."""
    codes = codes.contiguous()
    return (codes, *(codes if plane is None else plane.contiguous() for plane in optional))


def _format(codes: Tensor, massive: Tensor | None, format: str) -> dict[str, object]:
    """Key of a compiled kernel: format, channels a scale, massive channels a layer."""
    return {"FORMAT": format, "GROUP": GROUP.get(format, 1), "MASSIVE": 0 if massive is None else massive.shape[2]}


def _tile(shape: tuple[int, int, int, int]) -> dict[str, int]:
    """Tile sides: powers of two, and no less than 16, the smallest matrix product of a tensor core."""
    _, num_blocks, num_layers, dim = shape
    side = triton.next_power_of_2
    return {
        "BLOCKS": max(16, side(num_blocks)),
        "LAYERS": max(16, side(num_layers - 1)),
        "CHANNELS": min(CHANNELS, max(WIDEST_GROUP, side(dim))),
    }


def _dot_dtype(dtype: torch.dtype) -> tl.dtype:
    """Dtype of matrix products; the interpreter's bf16 arithmetic is wrong, so there it is float32."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return tl.bfloat16 if dtype == torch.bfloat16 and not interpreted else tl.float32


@triton.jit
def _mix_all(
    codes, scales, massive, mean, std, channels, index, weights, out, num_tokens, num_blocks, num_layers, dim,
    FORMAT: tl.constexpr, GROUP: tl.constexpr, MASSIVE: tl.constexpr, BLOCKS: tl.constexpr, LAYERS: tl.constexpr,
    CHANNELS: tl.constexpr, K: tl.constexpr, TOKENS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Out[:, token] = W S: a product of picks [block, layer] and states [layer, channel], for a few tokens."""
    first = tl.program_id(0).to(tl.int64) * TOKENS
    block, layer = tl.arange(0, BLOCKS), tl.arange(0, LAYERS)
    for start in range(0, dim, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        shift, stretch = _learned(mean, std, layer, channel, num_layers, dim, FORMAT)
        for nth in tl.static_range(TOKENS):
            token = first + nth
            blocks = tl.where(token < num_tokens, num_blocks, 0)
            picks, used = _picks(index, weights, token, num_blocks, blocks, block, layer, K, True)
            row = token * num_layers + 1 + layer
            values = _values(codes, scales, row, used, start, dim, FORMAT, GROUP, LAYERS, CHANNELS)
            values = _learned_values(
                values, massive, channels, row, layer, used, channel, shift, stretch, FORMAT, MASSIVE
            )
            mixed = tl.dot(picks.to(DOT), values.to(DOT), input_precision="ieee")
            at = (block.to(tl.int64)[:, None] * num_tokens + token) * dim + channel[None, :]
            inside = (block[:, None] < blocks) & (channel[None, :] < dim)
            tl.store(out + at, mixed, mask=inside)


@triton.jit
def _mix_all_backward(
    codes, scales, massive, mean, std, channels, index, grad, grads, num_tokens, num_blocks, num_layers, dim,
    FORMAT: tl.constexpr, GROUP: tl.constexpr, MASSIVE: tl.constexpr, BLOCKS: tl.constexpr, LAYERS: tl.constexpr,
    CHANNELS: tl.constexpr, K: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Grads[token] = (dOut S^T) at the picks: every picked row is read once for all blocks that picked it."""
    token = tl.program_id(0).to(tl.int64)
    block, layer = tl.arange(0, BLOCKS), tl.arange(0, LAYERS)
    _, used = _picks(index, index, token, num_blocks, num_blocks, block, layer, K, False)
    row = token * num_layers + 1 + layer
    by_layer = tl.zeros([BLOCKS, LAYERS], tl.float32)
    for start in range(0, dim, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        shift, stretch = _learned(mean, std, layer, channel, num_layers, dim, FORMAT)
        values = _values(codes, scales, row, used, start, dim, FORMAT, GROUP, LAYERS, CHANNELS)
        values = _learned_values(values, massive, channels, row, layer, used, channel, shift, stretch, FORMAT, MASSIVE)
        at = (block.to(tl.int64)[:, None] * num_tokens + token) * dim + channel[None, :]
        inside = (block[:, None] < num_blocks) & (channel[None, :] < dim)
        upstream = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
        by_layer += tl.dot(upstream.to(DOT), tl.trans(values.to(DOT)), input_precision="ieee")
    for pick in tl.static_range(K):
        at = (token * num_blocks + block) * K + pick
        chosen = tl.load(index + at, mask=block < num_blocks, other=-1)
        picked = tl.sum(tl.where(chosen[:, None] == layer[None, :], by_layer, 0.0), axis=1)
        tl.store(grads + at, picked, mask=block < num_blocks)


@triton.jit
def _mix_one(
    codes, scales, massive, mean, std, channels, index, weights, out, num_tokens, num_blocks, num_layers, dim,
    FORMAT: tl.constexpr, GROUP: tl.constexpr, MASSIVE: tl.constexpr, K: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Out[0, token] = sum of k rows, for one block: a gather without a matrix product."""
    token = tl.program_id(0).to(tl.int64)
    start = tl.program_id(1) * CHANNELS
    channel, one = start + tl.arange(0, CHANNELS), tl.arange(0, 1)
    mixed = tl.zeros([1, CHANNELS], tl.float32)
    for pick in tl.static_range(K):
        layer = tl.load(index + token * K + pick + one)
        weight = tl.load(weights + token * K + pick + one).to(tl.float32)
        row, used = token * num_layers + 1 + layer, layer >= 0
        shift, stretch = _learned(mean, std, layer, channel, num_layers, dim, FORMAT)
        values = _values(codes, scales, row, used, start, dim, FORMAT, GROUP, 1, CHANNELS)
        values = _learned_values(values, massive, channels, row, layer, used, channel, shift, stretch, FORMAT, MASSIVE)
        mixed += weight[:, None] * values
    tl.store(out + token * dim + channel[None, :], mixed, mask=channel[None, :] < dim)


@triton.jit
def _picks(
    index, weights, token, num_blocks, blocks, block, layer, K: tl.constexpr, WEIGHTED: tl.constexpr
):  # fmt: skip
    """The weights of one token as [block, layer], zero where nothing was picked, and the layers that any block picked.

    Only the first `blocks` blocks are looked at: none of a token behind the last.
    """
    picks = tl.zeros([block.shape[0], layer.shape[0]], tl.float32)
    counts = tl.zeros([block.shape[0], layer.shape[0]], tl.int32)
    real = block < blocks
    for pick in tl.static_range(K):
        at = (token * num_blocks + block) * K + pick
        chosen = tl.load(index + at, mask=real, other=-1)
        here = chosen[:, None] == layer[None, :]
        counts += here.to(tl.int32)
        if WEIGHTED:
            weight = tl.load(weights + at, mask=real, other=0.0).to(tl.float32)
            picks += tl.where(here, weight[:, None], 0.0)
    return picks, tl.max(counts, axis=0) > 0


@triton.jit
def _values(
    codes, scales, row, used, start, dim, FORMAT: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """[row, channel] in float32: states of bf16, code times step of quantised ones; 0 in rows that are not used."""
    channel = start + tl.arange(0, CHANNELS)
    inside = used[:, None] & (channel[None, :] < dim)
    if FORMAT == "bf16":
        values = tl.load(codes + row[:, None] * dim + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    else:
        if FORMAT == "int8":
            code = tl.load(codes + row[:, None] * dim + channel[None, :], mask=inside, other=0).to(tl.float32)
        else:
            byte = start // 2 + tl.arange(0, CHANNELS // 2)
            at = row[:, None] * (dim // 2) + byte[None, :]
            pair = tl.load(codes + at, mask=used[:, None] & (byte[None, :] < dim // 2), other=0x88).to(tl.int32)
            code = tl.interleave((pair & 15) - 8, (pair >> 4) - 8).to(tl.float32)
        num_groups = tl.cdiv(dim, GROUP)
        group = start // GROUP + tl.arange(0, CHANNELS // GROUP)
        known = used[:, None] & (group[None, :] < num_groups)
        scale = tl.load(scales + row[:, None] * num_groups + group[None, :], mask=known, other=0).to(tl.float32)
        step = tl.where(scale == 0, 0.0, tl.exp2((scale - 128) / 8))  # row group
        grouped = tl.reshape(code, [ROWS, CHANNELS // GROUP, GROUP]) * step[:, :, None]
        values = tl.reshape(grouped, [ROWS, CHANNELS])
    return values


@triton.jit
def _learned(mean, std, layer, channel, num_layers, dim, FORMAT: tl.constexpr):
    """Mean and deviation of every (layer, channel); nothing for bf16, which needs none."""
    if FORMAT == "bf16":
        shift, stretch = 0.0, 1.0
    else:
        at = (layer[:, None] + 1) * dim + channel[None, :]
        known = (layer[:, None] + 1 < num_layers) & (channel[None, :] < dim)
        shift = tl.load(mean + at, mask=known, other=0.0).to(tl.float32)
        stretch = tl.load(std + at, mask=known, other=0.0).to(tl.float32)
    return shift, stretch


@triton.jit
def _learned_values(
    values, massive, channels, row, layer, used, channel, shift, stretch, FORMAT: tl.constexpr, MASSIVE: tl.constexpr
):  # fmt: skip
    """Undo the whitening of quantised values and put the exact values of the massive channels in place."""
    if FORMAT != "bf16":
        values = values * stretch + shift
        for nth in tl.static_range(MASSIVE):
            place = tl.load(channels + (layer + 1) * MASSIVE + nth, mask=used, other=-1)
            exact = tl.load(massive + row * MASSIVE + nth, mask=used, other=0.0).to(tl.float32)
            values = tl.where(channel[None, :] == place[:, None], exact[:, None], values)
    return values
