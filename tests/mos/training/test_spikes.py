"""Spikes: what is one, on all ranks alike, and what is left out for it."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mos.errors import UserError
from mos.training.spikes import LossSpikeError, SkippedBatches, SpikeConfig, SpikeWatch, read_skipped, spike_limit
from tests.mos.training.gloo import run_ranks

CONFIG = SpikeConfig(window=10)


def test_a_loss_is_compared_with_the_spread_of_those_before_it() -> None:
    losses = [1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.0, 1.1, 0.9, 1.0]
    assert spike_limit(losses, CONFIG) == pytest.approx(1.0 + 3 * 0.2)
    assert spike_limit([10 * loss for loss in losses], CONFIG) == pytest.approx(16)
    assert spike_limit(losses[1:], CONFIG) == math.inf
    assert spike_limit(10 * [2.0], CONFIG) == pytest.approx(2.006)
    two_kinds = 7 * [0.2] + 3 * [0.6]  # batches to edit with and batches to draw with
    assert spike_limit(two_kinds, CONFIG) == pytest.approx(1.4)


def feed(watch: SpikeWatch, first: int, losses: list[float]) -> None:
    for place, loss in enumerate(losses):
        watch.add(first + place, torch.tensor(loss) * (1 + dist.get_rank()))
    watch.look()


def watched(folder: Path) -> None:
    """Rank 1 has twice the loss of rank 0: what counts is the mean, 1.5 times what is fed."""
    watch = SpikeWatch(CONFIG)
    feed(watch, 0, [])
    feed(watch, 0, [1.0, 1.2, 0.9, 1.1, 50.0, 0.8, 1.0, 1.1, 0.9, float("nan"), 1.0])  # none is judged before ten
    assert watch.recent == pytest.approx([1.5 * loss for loss in (1.0, 1.2, 0.9, 1.1, 50.0, 0.8, 1.0, 1.1, 0.9, 1.0)])
    watch = SpikeWatch(CONFIG, 10 * (1.5,))
    feed(watch, 40, [1.0, 1.0])
    with pytest.raises(LossSpikeError, match="at steps 43 to 46") as spike:
        feed(watch, 42, [1.0, 1.0, 1.3, 1.0, 1.2, 1.0])
    assert spike.value.batches == range(43, 47)
    assert (spike.value.loss, spike.value.usual) == pytest.approx((1.95, 1.5))
    assert len(watch.recent) == 10
    left_out = SkippedBatches(folder, most=1)
    left_out.add(spike.value, lambda steps: [f"sample of {step}" for step in steps])
    again = SkippedBatches(folder, most=1)
    for known in (left_out, again):
        assert [step for step in range(40, 50) if step in known] == [43, 44, 45, 46]
    assert again.records[0].samples == [f"sample of {step}" for step in range(43, 47)]
    with pytest.raises(UserError, match=r"loss 1.9500 where 1.5000 is usual.*as many as spikes\.rewinds = 1"):
        again.add(spike.value, lambda steps: [])


def test_all_ranks_find_the_same_spike(tmp_path: Path) -> None:
    run_ranks(watched, 2, tmp_path)
    assert [(record.first, record.last) for record in read_skipped(tmp_path)] == [(43, 46)]


def without_room(folder: Path) -> None:
    left_out = SkippedBatches(folder / "gone", most=1)
    with pytest.raises(UserError, match="cannot be written"):
        left_out.add(LossSpikeError(range(1, 2), 2.0, 1.0), lambda steps: [])


def test_a_spike_that_cannot_be_noted_is_an_error(tmp_path: Path) -> None:
    run_ranks(without_room, 2, tmp_path)
