"""Real process groups over gloo, for tests: one process or several, on this machine."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


@contextmanager
def process_group(rank: int, world_size: int, rendezvous: Path) -> Iterator[None]:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    try:
        yield
    finally:
        dist.destroy_process_group()


def run_ranks(function: Callable[..., None], world_size: int, *arguments: Any) -> None:
    """Run `function(*arguments)` on every rank of a new process group; an error of any rank is raised here."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (world_size, Path(folder) / "rendezvous", function, arguments), nprocs=world_size)


def _rank(rank: int, world_size: int, rendezvous: Path, function: Callable[..., None], arguments: tuple) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with process_group(rank, world_size, rendezvous):
        function(*arguments)
