"""Slow ranks: found by what they do alone, named once, and once more when they are not slow any longer."""

from pathlib import Path

import torch
import torch.distributed as dist

from mos.training import slow_ranks as module
from mos.training.slow_ranks import SlowRanks, slow_ranks
from tests.mos.training.gloo import run_ranks


def test_ranks_are_compared_with_the_median() -> None:
    assert slow_ranks([1.0, 1.1, 0.9, 1.0], [0.0, 0.1, 0.05, 0.0]) == {}
    assert slow_ranks([1.0, 1.1, 2.0, 1.0], [0.0, 0.0, 0.0, 0.5]) == {
        2: "computes 2.0 times as slowly as the median rank",
        3: "waits for batches 50% of the time, the median rank 0%",
    }
    assert slow_ranks([1.0, 1.0], [0.5, 0.5]) == {}  # all wait: the producers are slow, no rank is
    assert list(slow_ranks([1.0, 1.8], [0.0, 0.0])) == [1]


def compared(folder: Path) -> None:
    told: list[str] = []
    slow = SlowRanks(torch.device("cpu"), told.append)
    module.SLOWER = 1e9  # this machine's cores have other things to do
    for waited in (0.0, 0.9, 0.9, 0.0, 0.9, 0.9, 0.9, 0.9, 0.0, 0.0):
        slow.see(waited if dist.get_rank() == 1 else 0.0)
    if dist.get_rank() == 0:
        first, second = told
        assert first.startswith("rank 1 (")
        assert first.endswith("slows all 2 ranks down: it waits for batches 90% of the time, the median rank 0%")
        assert second.endswith("is as fast as the others again")
    else:
        assert told == []


def test_a_rank_is_named_after_some_lines_and_once(tmp_path: Path) -> None:
    run_ranks(compared, 2, tmp_path)


def slowed(folder: Path) -> None:
    told: list[str] = []
    slow = SlowRanks(torch.device("cpu"), told.append)
    if dist.get_rank() == 1:
        slow._matrix = torch.full((2048, 2048), 1 / 2048)
    for _ in range(3):
        slow.see(0.0)
    if dist.get_rank() == 0:
        assert len(told) == 1
        assert "times as slowly as the median rank" in told[0]


def test_a_slow_device_is_found_by_what_it_computes(tmp_path: Path) -> None:
    run_ranks(slowed, 2, tmp_path)
