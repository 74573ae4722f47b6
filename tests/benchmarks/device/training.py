"""Training steps of the full-size models with random weights: the real engine on one device, FLOPs by formula."""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from mos.loader.batch import Batch
from mos.model.mos import ModelConfig, MoS
from mos.model.presets import MOS_L, MOS_S
from mos.planning.flops import generation_flops, training_flops
from mos.training.engine import Engine, build_engine
from mos.training.loop import update
from mos.training.optimizer import OptimizerConfig
from mos.training.sharding import Fsdp2Config
from tests.benchmarks.device.contexts import CONTEXT_TOKENS, random_context
from tests.benchmarks.device.run import Run, free
from tests.benchmarks.device.timing import Ceilings
from tests.benchmarks.harness import Row

STEPS, WARMUP = 5, 2


@dataclass(frozen=True)
class StepCase:
    """One row: a model at a resolution."""

    id: str
    config: ModelConfig
    resolution_px: int
    batch_size: int
    recompute: bool = False


CASES = (
    StepCase("step.1024", MOS_S, 1024, 16),
    StepCase("step.512", MOS_S, 512, 48),
    StepCase("step.2048", MOS_S, 2048, 8, recompute=True),
)
LARGE = StepCase("step.mos_l.1024", MOS_L, 1024, 8, recompute=True)


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
    times = torch.rand(batch_size, device=device)
    return Batch(0, 0, latents, torch.randn_like(latents), times, random_context(config, batch_size, device))


def steps(run: Run, cases: Sequence[StepCase], ceilings: Ceilings, device: torch.device) -> None:
    """step.* of the cases, each in a measurement of its own."""
    for case in cases:
        run.measure(case.id, 60, partial(step_rows, run, case, ceilings, device))


def step_rows(run: Run, case: StepCase, ceilings: Ceilings, device: torch.device) -> Iterator[Row]:
    """Share of the matrix ceiling, tokens a second and memory of one training step; halves the batch until it fits."""
    batch_size, step = case.batch_size, None
    while step is None:
        try:
            step = measure_step(case, batch_size, device)
        except torch.cuda.OutOfMemoryError:
            if batch_size == 1 or not run.allows(f"{case.id} at batch {batch_size // 2}", 40):
                raise
            batch_size //= 2
    config = case.config
    image = (case.resolution_px // 16 // config.patch) ** 2
    flops = batch_size * training_flops(generation_flops(config, image, CONTEXT_TOKENS), recompute=False)
    rate, ceiling = flops / step.seconds, ceilings.matmul
    yield Row(case.id, rate / 1e12, "model TFLOP/s", "bf16 product of 8192", ceiling / 1e12, rate / ceiling, STEPS)
    yield Row(f"{case.id}.ms", step.seconds * 1e3, f"ms at batch {batch_size}", repeats=STEPS)
    yield Row(f"{case.id}.tokens", batch_size * (image + CONTEXT_TOKENS) / step.seconds, "tokens/s", repeats=STEPS)
    yield Row(f"{case.id}.memory", step.peak_gib, "GiB peak")


@dataclass(frozen=True)
class MeasuredStep:
    """One training step."""

    seconds: float
    peak_gib: float
    """Most that was allocated, from the building of the model on; 0 on a CPU."""


def measure_step(case: StepCase, batch_size: int, device: torch.device) -> MeasuredStep:
    """Build an engine and train: a model left in the middle of a step, without memory, is not entered again."""
    free()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    engine = build(case.config, device, recompute=case.recompute, compile=device.type == "cuda")
    seconds = step_seconds(engine, random_batch(case.config, batch_size, case.resolution_px, device))
    return MeasuredStep(seconds, torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0)


def step_seconds(engine: Engine, batch: Batch) -> float:
    """Median seconds of an update."""
    seconds = []
    for _ in range(WARMUP + STEPS):
        started = time.perf_counter()
        update(engine, batch, lr=1e-5)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARMUP:])


def counted_flops_rows(config: ModelConfig, device: torch.device) -> Iterator[Row]:
    """The formula against torch's counter, forward pass of one sample at 512 px; the counter sees matrix products."""
    with device:
        model = MoS(config).to(torch.bfloat16)
    batch = random_batch(config, 1, 512, device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch.latents, batch.timesteps, batch.context)
    formula = generation_flops(config, (512 // 16 // config.patch) ** 2, CONTEXT_TOKENS)
    counted = counter.get_total_flops()
    yield Row("step.flops", formula / 1e12, "TFLOP", "torch.utils.flop_counter", counted / 1e12, counted / formula)
