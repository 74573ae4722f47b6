"""A batch is cut, moved and counted by sample: all its parts alike."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mos.loader.batch import Batch
from tests.mos.training.tiny import tiny_batch


def edits() -> Batch:
    """Eight samples with every part that a batch may have; the second and the last two are left out."""
    batch = tiny_batch(5)
    weight = torch.tensor([1.0, 0, 1, 1, 1, 1, 0, 0])
    return replace(batch, epoch=3, reference=batch.latents - 3, weight=weight)


def parts_of(batch: Batch) -> dict[str, Tensor]:
    """Everything that is counted by sample, or by its tokens."""
    names = ("latents", "noise", "timesteps", "reference", "weight")
    parts = {name: getattr(batch, name) for name in names}
    exploration = {"take": batch.exploration.take, "layers": batch.exploration.layers}
    return parts | exploration | {"states": batch.context.states, "mask": batch.context.layout.mask}


@pytest.mark.parametrize(
    ("num", "lengths"), [(1, [8]), (2, [4, 4]), (3, [2, 3, 3]), (5, [1, 2, 1, 2, 2]), (8, [1] * 8)]
)
def test_micro_batches_are_the_batch_in_order(num, lengths):
    batch = edits()
    micro = list(batch.split(num))
    assert [len(part) for part in micro] == lengths
    assert {(part.epoch, part.step) for part in micro} == {(3, 5)}
    for name, whole in parts_of(batch).items():
        assert torch.equal(torch.cat([parts_of(part)[name] for part in micro]), whole), name


def test_a_slice_is_the_batch_of_its_samples_alone():
    ours, alone = tiny_batch(0)[2:4], tiny_batch(0, rank=1, world_size=4)
    ctx = alone.context.layout.mask.shape[1]
    for name in ("latents", "noise", "timesteps"):
        assert torch.equal(getattr(ours, name), getattr(alone, name))
    assert torch.equal(ours.context.states, alone.context.states)
    assert torch.equal(ours.context.layout.offsets, alone.context.layout.offsets)
    assert torch.equal(ours.exploration.layers[:, :ctx], alone.exploration.layers)


def test_what_a_batch_does_not_have_its_slices_do_not_have():
    batch = replace(tiny_batch(0), exploration=None)
    for part in (batch[:2], batch.to(torch.device("cpu"))):
        assert (part.reference, part.exploration, part.weight) == (None, None, None)


def test_every_part_moves_to_the_device():
    moved = edits().to(torch.device("meta"))
    assert {name: part.device.type for name, part in parts_of(moved).items()} == dict.fromkeys(parts_of(moved), "meta")
    assert (len(moved), moved.epoch, moved.step) == (8, 3, 5)


def test_samples_left_out_are_counted():
    assert edits().num_left_out == 3
    assert [part.num_left_out for part in edits().split(4)] == [1, 0, 0, 2]
    assert tiny_batch(0).num_left_out == 0
    assert replace(edits(), weight=torch.ones(8)).num_left_out == 0
