"""Image tokens over [image | context] of unequal contexts: what could serve, of which the model uses the mask.

Milliseconds forward and backward of 16 samples at 1024 px with 20 to 200 context tokens each.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from tests.benchmarks.device.run import Run
from tests.benchmarks.device.timing import gpu_ms
from tests.benchmarks.harness import Row

BATCH, IMAGE, HEADS, HEAD_DIM = 16, 1028, 20, 128
LENGTHS = [20 + 180 * sample // (BATCH - 1) for sample in range(BATCH)]


@dataclass(frozen=True)
class Streams:
    """Queries of the image, keys and values of image and context, padded to the longest."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor
    """True at real keys."""

    def transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Heads before tokens."""
        return self.q.transpose(1, 2), self.k.transpose(1, 2), self.v.transpose(1, 2)


def attention(run: Run) -> None:
    """attention.*: each candidate interleaved with the mask, in a measurement of its own."""
    builds = {"mask": _masked, "padding": _padded, "flex": _flex, "varlen": _varlen}
    for name, build in builds.items():
        run.measure(f"attention.{name}", 20, partial(_rows, name, build))


def _rows(name: str, build: Callable[[Streams], Callable[[], Tensor]]) -> Iterator[Row]:
    streams = _streams()
    runs = {"mask": _masked(streams)} | {name: build(streams)}
    leaves = (streams.q, streams.k, streams.v)
    ms = gpu_ms({key: partial(_there_and_back, run, leaves) for key, run in runs.items()})
    yield Row(f"attention.{name}", ms[name], "ms", "SDPA with a mask", ms["mask"], ms["mask"] / ms[name], 15)


def _streams() -> Streams:
    longest = IMAGE + max(LENGTHS)
    q, k, v = (
        torch.randn(BATCH, n, HEADS, HEAD_DIM, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for n in (IMAGE, longest, longest)
    )
    ends = torch.tensor(LENGTHS, device="cuda")[:, None] + IMAGE
    return Streams(q, k, v, torch.arange(longest, device="cuda") < ends)


def _there_and_back(run: Callable[[], Tensor], leaves: tuple[Tensor, ...]) -> None:
    out = run()
    torch.autograd.grad(out, leaves, torch.ones_like(out))


def _masked(streams: Streams) -> Callable[[], Tensor]:
    keep = streams.mask[:, None, None]
    return lambda: functional.scaled_dot_product_attention(*streams.transposed(), attn_mask=keep)


def _padded(streams: Streams) -> Callable[[], Tensor]:
    return lambda: functional.scaled_dot_product_attention(*streams.transposed())


def _flex(streams: Streams) -> Callable[[], Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def real(sample: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return streams.mask[sample, key]

    blocks = create_block_mask(real, BATCH, None, IMAGE, streams.k.shape[1], device="cuda")
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(*streams.transposed(), block_mask=blocks)


def _varlen(streams: Streams) -> Callable[[], Tensor]:
    """Keys and values without padding; packing them is timed too."""
    from torch.nn.attention.varlen import varlen_attn

    longest = streams.k.shape[1]
    starts = torch.tensor([0, *(IMAGE + n for n in LENGTHS)], device="cuda").cumsum(0).int()
    queries = torch.arange(0, BATCH * IMAGE + 1, IMAGE, device="cuda", dtype=torch.int32)
    rows = streams.mask.flatten().nonzero()[:, 0]

    def run() -> Tensor:
        k, v = (part.flatten(0, 1)[rows] for part in (streams.k, streams.v))
        out = varlen_attn(streams.q.flatten(0, 1), k, v, queries, starts, IMAGE, longest)
        assert isinstance(out, Tensor), "the log-sum-exp is not asked for"
        return out

    return run
