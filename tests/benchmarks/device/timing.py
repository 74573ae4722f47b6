"""Time on a GPU: events around a call, the L2 cache flushed before each, candidates interleaved, medians."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

FLUSH_BYTES = 256 * 2**20
"""More than four times the 60 MB of L2 of an H200."""
SLEEP_CYCLES = 1_000_000
"""About half a millisecond, tens of launches."""


@dataclass(frozen=True)
class Ceilings:
    """What this GPU does at best, measured in this process."""

    copy: float
    """Bytes a second, read and written, of a copy of 4 GB."""
    matmul: float
    """FLOP/s of a bf16 product of 8192 x 8192 x 8192 on random data."""


def gpu_ms(candidates: Mapping[str, Callable[[], Any]], repeats: int = 15, warmup: int = 3) -> dict[str, float]:
    """Median milliseconds of each candidate, A B A B ...

    The GPU sleeps between the flush and the start, so that the candidate is queued when the clock starts: what is timed
    is the GPU's work and not the launches, unless those take longer than the sleep.
    """
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    for run in candidates.values():
        for _ in range(warmup):
            run()
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flush.zero_()
            torch.cuda._sleep(SLEEP_CYCLES)
            start.record()
            run()
            end.record()
            events[name].append((start, end))
    torch.cuda.synchronize()
    return {name: statistics.median(start.elapsed_time(end) for start, end in pairs) for name, pairs in events.items()}


def measure_ceilings() -> Ceilings:
    """Copy bandwidth and matrix rate."""
    copy = _copy_seconds()
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = gpu_ms({"matmul": lambda: a @ b})["matmul"] / 1e3
    return Ceilings(8 * 2**30 / copy, 2 * 8192**3 / product)


def _copy_seconds() -> float:
    """Of 4 GiB, read and written; their memory is free again afterwards."""
    source = torch.randn(2**30, device="cuda")
    target = torch.empty_like(source)
    return gpu_ms({"copy": lambda: target.copy_(source)})["copy"] / 1e3
