"""Ranks that keep the others waiting, found and named: a device that computes slowly, a node that reads slowly.

In a step all ranks take equally long, since they wait for each other in every collective. What tells them apart is the
time of work that no rank waits in: a few products of matrices, timed when a line of metrics is due, and the wait for
batches.
"""

import socket
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mos.training.agreement import gather

SLOWER = 1.5
"""A rank is slow whose products take so many times as long as the median rank's."""
WAITS = 0.2
"""And one that waits for batches for so much more of the time than the median rank."""
LINES = 3
"""In so many lines of metrics in a row."""
SIZE, PRODUCTS = {"cpu": 256, "cuda": 4096}, 4
"""Width of the matrices by kind of device, and how many products are timed: milliseconds."""


class SlowRanks:
    """Looks at all ranks, two or more, whenever a line of metrics is due. Collective."""

    def __init__(self, device: torch.device, say: Callable[[str], None]) -> None:
        """`say` gets one sentence on rank 0 for each rank that becomes slow, and one when it no longer is."""
        self._device, self._say = device, say
        self._hosts = gather(socket.gethostname())
        self._lines = [0] * dist.get_world_size()
        size = SIZE.get(device.type, SIZE["cuda"])
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        self._matrix = torch.full((size, size), 1 / size, device=device, dtype=dtype)
        self._speed_s()  # the first products also load libraries

    def see(self, waited: float) -> None:
        """Compare this rank with the others.

        Args:
            waited: share of the time since the last line that it waited for batches, in [0, 1].
        """
        mine = torch.tensor([self._speed_s(), waited], dtype=torch.float64, device=self._device)
        every = [torch.empty_like(mine) for _ in self._lines]
        dist.all_gather(every, mine)
        if dist.get_rank() == 0:
            self._compare(torch.stack(every).cpu())

    def _compare(self, measured: Tensor) -> None:
        """Count lines in which a rank is slow; `measured` holds seconds and share waited [ranks, 2]."""
        faults = slow_ranks(*measured.T.tolist())
        for rank, before in enumerate(self._lines):
            fault = faults.get(rank)
            self._lines[rank] = before + 1 if fault else 0
            name = f"rank {rank} ({self._hosts[rank]})"
            if fault and before + 1 == LINES:
                self._say(f"{name} slows all {len(self._lines)} ranks down: it {fault}")
            elif not fault and before >= LINES:
                self._say(f"{name} is as fast as the others again")

    def _speed_s(self) -> float:
        """Fastest of three goes, in seconds: what disturbs a core for a moment is no reason to name it."""
        return min(self._timed_s() for _ in range(3))

    def _timed_s(self) -> float:
        self._wait()
        started = time.perf_counter()
        product = self._matrix
        for _ in range(PRODUCTS):
            product = product @ self._matrix
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def slow_ranks(seconds: Sequence[float], waited: Sequence[float]) -> dict[int, str]:
    """Ranks that are slow, and in what.

    Args:
        seconds: of each rank for the same work.
        waited: share of its time that each waited for batches, in [0, 1].
    """
    usual_s, usual_wait = statistics.median_low(seconds), statistics.median_low(waited)
    faults = {}
    for rank, (took_s, wait) in enumerate(zip(seconds, waited, strict=True)):
        if took_s > SLOWER * usual_s:
            faults[rank] = f"computes {took_s / usual_s:.1f} times as slowly as the median rank"
        elif wait > usual_wait + WAITS:
            faults[rank] = f"waits for batches {wait:.0%} of the time, the median rank {usual_wait:.0%}"
    return faults
