"""Exchange among ranks of values that are no tensors. Collective: all ranks call, in the same order."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

Value = TypeVar("Value")


def from_rank_0(ask: Callable[[], Value]) -> Value:
    """Answer of rank 0, on every rank."""
    answers: list[Any] = [ask() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(answers, src=0)
    return answers[0]


def gather(mine: Value) -> list[Value]:
    """Values of all ranks, in their order, on every rank."""
    answers: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(answers, mine)
    return answers
