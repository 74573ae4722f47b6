"""Training steps of the full-size models with random weights: the real engine on one device, FLOPs by formula."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from mos.data.batch import Batch
from mos.model.context import Context
from mos.model.mos import ModelConfig, MoS
from mos.planning.flops import generation_flops, training_flops
from mos.training.engine import Engine, build_engine
from mos.training.fsdp import Fsdp2Config
from mos.training.optimizer import OptimizerConfig
from mos.training.step import update
from tests.benchmarks.device.timing import Ceilings
from tests.benchmarks.harness import Row

CONTEXT_TOKENS, STEPS, WARMUP = 200, 5, 2


@dataclass(frozen=True)
class StepCase:
    """One row: a model at a resolution."""

    id: str
    resolution_px: int
    batch_size: int
    recompute: bool = False


CASES = (
    StepCase("step.512", 512, 48),
    StepCase("step.1024", 1024, 16),
    StepCase("step.2048", 2048, 8, recompute=True),
)


@contextmanager
def one_rank(device: torch.device) -> Iterator[None]:
    """A process group of this process alone."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29544"}
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def build(config: ModelConfig, device: torch.device, *, recompute: bool, compile: bool) -> Engine:
    """A trainable model with random weights."""
    with device:
        model = MoS(config)
        model.init_weights(torch.Generator(device).manual_seed(0))
    return build_engine(Fsdp2Config(compile=compile), OptimizerConfig(), model, device, recompute=recompute)


def random_batch(config: ModelConfig, batch_size: int, resolution_px: int, device: torch.device) -> Batch:
    """Noise in the shapes of a batch; 16 px a latent pixel as in the Wan 2.2 VAE."""
    side = resolution_px // 16
    latents = torch.randn(batch_size, config.latent_channels, side, side, device=device)
    shape = (batch_size, CONTEXT_TOKENS, config.state_layers + 1, config.state_dim)
    context = Context(
        torch.randn(shape, device=device, dtype=torch.bfloat16),
        torch.ones(shape[:2], dtype=torch.bool, device=device),
    )
    times = torch.rand(batch_size, device=device)
    return Batch(0, 0, latents, torch.randn_like(latents), times, context)


def step_rows(config: ModelConfig, engine: Engine, case: StepCase, ceilings: Ceilings) -> list[Row]:
    """Share of the matrix ceiling, tokens a second and memory of one training step; halves the batch until it fits."""
    batch_size = case.batch_size
    while True:
        try:
            seconds = step_seconds(engine, random_batch(config, batch_size, case.resolution_px, engine.device))
            break
        except torch.cuda.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size //= 2
            torch.cuda.empty_cache()
    image = (case.resolution_px // 16 // config.patch) ** 2
    flops = batch_size * training_flops(generation_flops(config, image, CONTEXT_TOKENS), recompute=False)
    rate = flops / seconds
    peak = torch.cuda.max_memory_allocated() / 2**30 if engine.device.type == "cuda" else 0.0
    ceiling = ceilings.matmul
    return [
        Row(case.id, rate / 1e12, "model TFLOP/s", "bf16 product of 8192", ceiling / 1e12, rate / ceiling, STEPS),
        Row(f"{case.id}.ms", seconds * 1e3, f"ms at batch {batch_size}", repeats=STEPS),
        Row(f"{case.id}.tokens", batch_size * (image + CONTEXT_TOKENS) / seconds, "tokens/s", repeats=STEPS),
        Row(f"{case.id}.memory", peak, "GiB peak"),
    ]


def step_seconds(engine: Engine, batch: Batch) -> float:
    """Median seconds of an update; each ends in a synchronisation, since the clip reads the gradient's norm."""
    seconds = []
    for _ in range(WARMUP + STEPS):
        started = time.perf_counter()
        update(engine, batch, lr=1e-5)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARMUP:])


def counted_flops_row(config: ModelConfig, device: torch.device) -> Row:
    """The formula against torch's counter, forward pass of one sample at 512 px; the counter sees matrix products."""
    with device:
        model = MoS(config).to(torch.bfloat16)
    batch = random_batch(config, 1, 512, device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch.latents, batch.timesteps, batch.context)
    formula = generation_flops(config, (512 // 16 // config.patch) ** 2, CONTEXT_TOKENS)
    counted = counter.get_total_flops()
    return Row("step.flops", formula / 1e12, "TFLOP", "torch.utils.flop_counter", counted / 1e12, counted / formula)


KINDS = {
    "mixing": ("_mix_",),
    "attention": ("flash", "fmha", "attention", "sdpa"),
    "norms and rotation": ("_norm_kernel", "_norm_backward", "_rope"),
    "gate": ("_kernel", "_backward_kernel"),
    "optimizer": ("adam", "foreach", "multi_tensor"),
    "matrix products": ("gemm", "nvjet", "cutlass", "cublas", "wgmma"),
}
"""Words in kernel names, looked for in this order; what has none of them is `other`."""


def shares(engine: Engine, batch: Batch) -> dict[str, float]:
    """Share of the GPU's time by kind of kernel, of one step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as run:
        update(engine, batch, lr=1e-5)
        torch.cuda.synchronize()
    times = dict.fromkeys((*KINDS, "other"), 0.0)
    for event in run.key_averages():
        name = event.key.lower()
        exact = next((kind for kind, words in KINDS.items() if kind == "gate" and name in words), None)
        kind = exact or next(
            (kind for kind, words in KINDS.items() if kind != "gate" and any(word in name for word in words)), "other"
        )
        times[kind] += event.self_device_time_total
    total = sum(times.values()) or 1.0
    return {kind: value / total for kind, value in times.items()}
