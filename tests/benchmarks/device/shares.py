"""Where the GPU's time goes in a training step: by the names of kernels, and matrix products by whose they are."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mos.model.fusion import RoutedFusion
from mos.model.mos import ModelConfig
from mos.training.loop import update
from tests.benchmarks.device.training import WARMUP, build, random_batch
from tests.benchmarks.harness import Row

KINDS = {
    "gate": ("_kernel", "_backward_kernel"),
    "mixing": ("_mix_",),
    "attention": ("flash", "fmha", "attention", "sdpa"),
    "norms and rotation": ("_norm_kernel", "_norm_backward", "_rope"),
    "optimizer": ("adam", "foreach", "multi_tensor"),
    "products": ("gemm", "nvjet", "cutlass", "cublas", "wgmma"),
}
"""Words in kernel names, looked for in this order; the gate's are whole names. What has none of them is `other`."""
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm")
OWNERS = ("router products", "projection", "feed-forward products")


def share_rows(config: ModelConfig, device: torch.device) -> Iterator[Row]:
    """step.share.*: of the GPU's time in one step of 8 samples at 1024 px."""
    engine = build(config, device, recompute=False, compile=True)
    batch = random_batch(config, 8, 1024, device)
    for _ in range(WARMUP):
        update(engine, batch, lr=1e-5)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], record_shapes=True) as run:
        update(engine, batch, lr=1e-5)
        torch.cuda.synchronize()
    times = step_times(run.key_averages(group_by_input_shape=True), config)
    total = sum(times.values()) or 1.0
    for kind, value in times.items():
        yield Row(f"step.share.{kind.replace(' ', '_')}", value / total, "of a step")


def step_times(events: Iterable[Any], config: ModelConfig) -> dict[str, float]:
    """Microseconds on the GPU of each kind of kernel and of each owner of matrix products.

    Blocks are compiled, so ranges around their parts would not survive; the shapes of a product, forward or backward,
    tell whose weight it has.
    """
    times = dict.fromkeys((*KINDS, *OWNERS, "other"), 0.0)
    for event in events:
        if event.device_type == DeviceType.CUDA:
            if not event.is_user_annotation:
                times[_kind(event.key.lower())] += event.self_device_time_total
        elif event.key in PRODUCTS:
            owner = product_owner(event.input_shapes, config)
            if owner is not None:
                times[owner] += event.self_device_time_total
    times["other products"] = max(0.0, times.pop("products") - sum(times[owner] for owner in OWNERS))
    return times


def product_owner(shapes: list[list[int]], config: ModelConfig) -> str | None:
    """The part of the model whose width appears in a product; None for queries, keys, values, outputs and patches."""
    sizes = set(chain.from_iterable(shapes))
    if isinstance(config.fusion, RoutedFusion):
        router = config.fusion.router
        if sizes & {router.dim, 3 * router.dim, router.ffn_dim, 2 * router.ffn_dim}:
            return "router products"
    if config.state_dim in sizes:
        return "projection"
    return "feed-forward products" if sizes & {config.ffn_dim, 2 * config.ffn_dim} else None


def _kind(name: str) -> str:
    if name in KINDS["gate"]:
        return "gate"
    named = (kind for kind, words in KINDS.items() if kind != "gate" and any(word in name for word in words))
    return next(named, "other")
