"""The batch plan of ten million samples: seconds, memory, and resuming late against resuming early.

    python -m tests.benchmarks.states.planning

Eleven buckets, batches of 2048. `plan.10m` groups all rows and plans an epoch, as a worker does at its start; resuming
finds the epoch of a step and plans it. Memory is what a fresh process adds to its own, the columns of the index
excluded.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from mos.loader.cells import sort_into_cells
from mos.loader.plan import BatchPlan, make_plan
from tests.benchmarks.harness import Row, measure_interleaved, write_results

ROWS, BUCKETS, BATCH, REPEATS = 10_000_000, 11, 2048, 7
EARLY, LATE = 10, 1_000_000
"""Steps to resume at."""


def columns(num_sources: int) -> tuple[np.ndarray, np.ndarray]:
    """Bucket and source of every row, as an index holds them."""
    rng = np.random.default_rng(0)
    bucket = rng.integers(0, BUCKETS, ROWS).astype(np.int16)
    return bucket, rng.integers(0, num_sources, ROWS).astype(np.int16)


def plan(bucket: np.ndarray, source: np.ndarray) -> BatchPlan:
    """Group the rows and plan the first epoch."""
    made = make_plan(sort_into_cells(bucket, source), batch_size=BATCH, seed=0)
    made.epoch(0)
    return made


def resume(made: BatchPlan, step: int) -> None:
    """What a worker plans when it goes on at a step."""
    epoch, _ = made.locate(step)
    made.epoch(epoch)


def plan_rows(num_sources: int, name: str) -> list[Row]:
    """Seconds, MB and ratio for samples of so many sources."""
    bucket, source = columns(num_sources)
    made = plan(bucket, source)
    seconds = measure_interleaved(
        {
            "plan": partial(plan, bucket, source),
            "early": partial(resume, made, EARLY),
            "late": partial(resume, made, LATE),
        },
        REPEATS,
    )
    ratio = seconds["late"] / seconds["early"]
    megabytes = peak_memory_mb(num_sources)
    return [
        Row(f"{name}.seconds", seconds["plan"], "s", "mark", 10.0, 10.0 / seconds["plan"], REPEATS),
        Row(f"{name}.memory", megabytes, "MB peak", "mark", 1000.0, 1000.0 / megabytes),
        Row(f"{name}.resume", ratio, f"time at step {LATE:,} / at step {EARLY}", "mark", 1.1, 1.1 / ratio, REPEATS),
    ]


def peak_memory_mb(num_sources: int) -> float:
    """MB that planning and a late resume add to the resident memory of a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.states.planning", "--peak", str(num_sources)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_peak(num_sources: int) -> None:
    inputs = columns(num_sources)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark to what is resident now
    before = _high_water_kib()
    resume(plan(*inputs), LATE)
    print((_high_water_kib() - before) * 1024 / 1e6)


def _high_water_kib() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        _print_peak(int(sys.argv[2]))
    else:
        write_results("states", plan_rows(1, "plan.10m") + plan_rows(3, "plan.10m.sources3"))
