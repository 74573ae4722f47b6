"""Softmax attention: over sequences of one length, and of image tokens over [image | context] with ragged contexts.

Dimension key
    batch  samples            seq   tokens of a sequence      kv    tokens that give keys and values
    heads  attention heads    hdim  width of a head           dim   heads * hdim
    img    image tokens       token context tokens of all samples, one sample after the other
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mos.kernels.backend import on_gpu
from mos.model.context import ContextLayout

EXPLICIT_SCORES = 2**18
"""Largest queries x keys for which a CPU attends explicitly in bfloat16: 12 ms against 38 ms of SDPA, forward and
backward, at 32 x 4 heads of 68 x 82 on one AMD EPYC core; SDPA's CPU backward has no bfloat16 matmul."""

FLASH_WIDTH = 256
"""Widest head of the flash kernel; it also asks for a multiple of 8."""


def split_heads(x: Float[Tensor, "*batch dim"], num_heads: int) -> Float[Tensor, "*batch heads hdim"]:
    """Cut the width into heads."""
    return x.unflatten(-1, (num_heads, -1))


def attend(
    q: Float[Tensor, "batch seq heads hdim"],
    k: Float[Tensor, "batch kv heads hdim"],
    v: Float[Tensor, "batch kv heads hdim"],
    mask: Bool[Tensor, "batch kv"] | None,
) -> Float[Tensor, "batch seq dim"]:
    """Attention of every query over the keys whose mask is True; heads are joined again."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    keep = None if mask is None else mask[:, None, None, :]
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] * k.shape[2] <= EXPLICIT_SCORES:
        out = _explicit_attention(q, k, v, keep)
    else:
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)
    return out.transpose(1, 2).flatten(2)


def attend_with_context(
    q: Float[Tensor, "batch img heads hdim"],
    k: Float[Tensor, "batch img heads hdim"],
    v: Float[Tensor, "batch img heads hdim"],
    context_k: Float[Tensor, "token heads hdim"],
    context_v: Float[Tensor, "token heads hdim"],
    layout: ContextLayout,
) -> Float[Tensor, "batch img dim"]:
    """Attention of the image tokens of a sample over [its image | its context], however long the contexts are.

    On a GPU in half precision, with heads that the flash kernel of variable lengths takes, keys and values lie one
    sample after the other, without padding; elsewhere contexts are padded and masked. Both give the same.
    """
    width = q.shape[-1]
    if on_gpu(q) and q.dtype in (torch.bfloat16, torch.float16) and width % 8 == 0 and width <= FLASH_WIDTH:
        return attend_packed(q, k, v, context_k, context_v, layout)
    return attend_padded(q, k, v, context_k, context_v, layout)


def attend_padded(
    q: Float[Tensor, "batch img heads hdim"],
    k: Float[Tensor, "batch img heads hdim"],
    v: Float[Tensor, "batch img heads hdim"],
    context_k: Float[Tensor, "token heads hdim"],
    context_v: Float[Tensor, "token heads hdim"],
    layout: ContextLayout,
) -> Float[Tensor, "batch img dim"]:
    """As `attend_with_context`, over contexts padded to the longest: the reference."""
    mask = functional.pad(layout.mask, (q.shape[1], 0), value=True)
    k, v = torch.cat([k, layout.pad(context_k)], dim=1), torch.cat([v, layout.pad(context_v)], dim=1)
    return attend(q, k, v, mask)


def attend_packed(
    q: Float[Tensor, "batch img heads hdim"],
    k: Float[Tensor, "batch img heads hdim"],
    v: Float[Tensor, "batch img heads hdim"],
    context_k: Float[Tensor, "token heads hdim"],
    context_v: Float[Tensor, "token heads hdim"],
    layout: ContextLayout,
) -> Float[Tensor, "batch img dim"]:
    """As `attend_with_context`, over keys and values without padding; half precision on a GPU."""
    from torch.nn.attention.varlen import varlen_attn  # loads torch._dynamo, which takes longer than all of mos.model

    batch, img = q.shape[:2]
    starts = img * torch.arange(batch + 1, device=q.device)
    image_rows = (starts[:-1] + layout.offsets[:-1])[:, None] + torch.arange(img, device=q.device)
    sample = layout.rows // layout.mask.shape[1]
    context_rows = torch.arange(len(layout.rows), device=q.device) + img * (sample + 1)
    out = varlen_attn(
        q.flatten(0, 1),
        _Interleave.apply(k.flatten(0, 1), context_k, image_rows.flatten(), context_rows),
        _Interleave.apply(v.flatten(0, 1), context_v, image_rows.flatten(), context_rows),
        starts.int(),
        (starts + layout.offsets).int(),
        img,
        img + layout.mask.shape[1],
    )
    assert isinstance(out, Tensor), "the log-sum-exp is not asked for"
    return out.view(batch, img, -1)


class _Interleave(torch.autograd.Function):
    """Rows of two tensors, each to its own place in one: each place is written once, and its gradient read once."""

    @staticmethod
    def forward(
        ctx: Any,
        one: Float[Tensor, "_ heads hdim"],
        other: Float[Tensor, "_ heads hdim"],
        rows_of_one: Int[Tensor, " _"],
        rows_of_other: Int[Tensor, " _"],
    ) -> Tensor:
        ctx.save_for_backward(rows_of_one, rows_of_other)
        joined = one.new_empty(len(one) + len(other), *one.shape[1:])
        return joined.index_copy_(0, rows_of_one, one).index_copy_(0, rows_of_other, other)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows_of_one, rows_of_other = ctx.saved_tensors
        return grad.index_select(0, rows_of_one), grad.index_select(0, rows_of_other), None, None


def _explicit_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
    """Scores, softmax, sum: the textbook form, with the scores held in memory."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if keep is not None:
        scores = scores.masked_fill(~keep, float("-inf"))
    return torch.softmax(scores, dim=-1) @ v
