"""Batches are cut into passes by what their tensors will hold, without holding it, and the result does not change."""

import pytest
import torch
from torch import Tensor

from mos.encoders.load import load_codec
from mos.encoders.pass_budget import WORKSPACE, PassBudget, PassWarning
from mos.encoders.vae import RandomWan, ShapesVaeConfig, VaeConfig, WanConfig
from mos.errors import UserError
from mos.peak_memory import peak_bytes
from tests.mos.encoders.pictures import pictures

MIB = 2**20


class Work:
    """What a codec does to pictures, and which passes it was asked for."""

    def __init__(self, room: int = 10**9) -> None:
        self.passes: list[tuple[int, int | None]] = []
        self.room = room

    def double(self, part: Tensor, rows: int | None) -> Tensor:
        """16 kB a picture of 2 x 32 x 32, or less in strips."""
        if not isinstance(part, torch._subclasses.FakeTensor):
            self.passes.append((len(part), rows))
            if len(part) * (rows or 32) > self.room:
                raise torch.OutOfMemoryError("no room")
        return torch.cat([strip * 2 for strip in part.split(rows or 32, dim=-2)], dim=-2)


def given(num: int) -> Tensor:
    return torch.randn(num, 2, 32, 32, generator=torch.Generator().manual_seed(0))


def test_as_many_pictures_as_fit_make_a_pass() -> None:
    work, batch = Work(), given(7)
    needed = WORKSPACE * peak_bytes(lambda: work.double(torch.empty(1, 2, 32, 32), None))
    done = PassBudget(int(3.9 * needed)).run(work.double, batch, 32 * 32)
    assert torch.equal(done, batch * 2)
    assert work.passes == [(3, None), (3, None), (1, None)]


def test_a_small_batch_is_one_pass_unmeasured() -> None:
    work = Work()
    PassBudget(4096 * MIB).run(work.double, given(5), 32 * 32)
    assert work.passes == [(5, None)]


def test_a_picture_that_does_not_fit_is_cut_into_the_largest_strips_that_do() -> None:
    work, batch = Work(), given(2)
    done = PassBudget(1).run(work.double, batch, 32 * 32, (None, 16, 8))
    assert torch.equal(done, batch * 2)
    assert work.passes == [(1, 8), (1, 8)]


def test_a_device_out_of_memory_halves_the_passes_and_goes_on() -> None:
    work, batch = Work(room=3 * 32), given(6)
    needed = WORKSPACE * peak_bytes(lambda: work.double(torch.empty(1, 2, 32, 32), None))
    with pytest.warns(PassWarning, match="a pass of 6 pictures did not fit into the memory of cpu"):
        done = PassBudget(int(6.9 * needed)).run(work.double, batch, 32 * 32)
    assert torch.equal(done, batch * 2)
    assert work.passes == [(6, None), (3, None), (3, None)]


def test_what_never_fits_ends_in_a_sentence() -> None:
    with pytest.warns(PassWarning), pytest.raises(UserError, match="one picture at a time does not fit"):
        PassBudget(64 * 1024).run(Work(room=1).double, given(3), 32 * 32)


@pytest.mark.parametrize("config", [WanConfig(random=RandomWan(base_dim=32)), ShapesVaeConfig()])
def test_codecs_give_the_same_in_passes_of_any_size(config: VaeConfig) -> None:
    images = pictures(3, 3, 96, 64)
    free, tight = load_codec(config), load_codec(config, pass_mb=1)
    latents = free.encode(images)
    torch.testing.assert_close(tight.encode(images), latents)
    assert (tight.decode(latents).int() - free.decode(latents).int()).abs().max() <= 1
    assert tight._budget._cuts["_encode", (3, 96, 64)].pictures == 1
    assert not free._budget._cuts
