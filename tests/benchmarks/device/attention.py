"""Image tokens over [image | context] of unequal contexts: the model's packed form against padding of several kinds.

Milliseconds forward and backward of 16 samples at 1024 px with 20 to 200 context tokens each, from the projections'
outputs on: what joins image and context is part of the time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from mos.model.attention import attend_packed, attend_padded
from mos.model.context import ContextLayout
from tests.benchmarks.device.run import Run
from tests.benchmarks.device.timing import gpu_ms
from tests.benchmarks.harness import Row

BATCH, IMAGE, HEADS, HEAD_DIM = 16, 1028, 20, 128
LENGTHS = [20 + 180 * sample // (BATCH - 1) for sample in range(BATCH)]


@dataclass(frozen=True)
class Streams:
    """Queries, keys and values of the image; keys and values of the contexts, one after the other."""

    leaves: tuple[Tensor, ...]
    layout: ContextLayout

    def padded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Heads before tokens, contexts padded to the longest."""
        q, k, v, context_k, context_v = self.leaves
        k, v = torch.cat([k, self.layout.pad(context_k)], dim=1), torch.cat([v, self.layout.pad(context_v)], dim=1)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def attention(run: Run) -> None:
    """attention.*: each candidate interleaved with the mask, in a measurement of its own."""
    builds = {"packed": _packed, "mask": _masked, "padding": _unmasked, "flex": _flex}
    for name, build in builds.items():
        run.measure(f"attention.{name}", 20, partial(_rows, name, build))


def _rows(name: str, build: Callable[[Streams], Callable[[], Tensor]]) -> Iterator[Row]:
    streams = _streams()
    runs = {"mask": _masked(streams)} | {name: build(streams)}
    ms = gpu_ms({key: partial(_there_and_back, run, streams.leaves) for key, run in runs.items()})
    yield Row(f"attention.{name}", ms[name], "ms", "SDPA with a mask", ms["mask"], ms["mask"] / ms[name], 15)


def _streams() -> Streams:
    shapes = [(BATCH, IMAGE, HEADS, HEAD_DIM)] * 3 + [(sum(LENGTHS), HEADS, HEAD_DIM)] * 2
    leaves = tuple(torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for shape in shapes)
    return Streams(leaves, ContextLayout.of(torch.tensor([0, *LENGTHS]).cumsum(0)).to("cuda"))


def _there_and_back(run: Callable[[], Tensor], leaves: tuple[Tensor, ...]) -> None:
    out = run()
    torch.autograd.grad(out, leaves, torch.ones_like(out))


def _packed(streams: Streams) -> Callable[[], Tensor]:
    return lambda: attend_packed(*streams.leaves, streams.layout)


def _masked(streams: Streams) -> Callable[[], Tensor]:
    return lambda: attend_padded(*streams.leaves, streams.layout)


def _unmasked(streams: Streams) -> Callable[[], Tensor]:
    """As if all contexts were of the longest's length: what padding costs where nothing is masked."""
    return lambda: functional.scaled_dot_product_attention(*streams.padded())


def _flex(streams: Streams) -> Callable[[], Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask = functional.pad(streams.layout.mask, (IMAGE, 0), value=True)

    def real(sample: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return mask[sample, key]

    blocks = create_block_mask(real, BATCH, None, IMAGE, mask.shape[1], device="cuda")
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(*streams.padded(), block_mask=blocks)
