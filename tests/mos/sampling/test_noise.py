import pytest
import torch

from mos.errors import UserError
from mos.sampling.noise import drawn_noise, generators_of, seeded_noise

ODD = (3, 5, 7)


def test_noise_depends_on_the_seed_alone() -> None:
    alone = seeded_noise([7], (3, 4, 4))
    together = seeded_noise([5, 7], (3, 4, 4))
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])
    assert torch.equal(alone[0], torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("num", [2, 3, 8])
def test_one_generator_begins_alike_whatever_comes_after(num: int) -> None:
    one, many = (drawn_noise(torch.Generator().manual_seed(3), count, ODD) for count in (1, num))
    assert torch.equal(one[0], many[0])
    whole = torch.randn(num, *ODD, generator=torch.Generator().manual_seed(3))
    assert not torch.equal(whole[0], one[0]), "or else it could be drawn at once"


def test_without_a_generator_it_is_torch_s_own() -> None:
    torch.manual_seed(11)
    first = drawn_noise(None, 2, ODD)
    torch.manual_seed(11)
    assert torch.equal(drawn_noise(None, 2, ODD), first)


def test_there_is_a_generator_for_each_picture() -> None:
    assert drawn_noise(generators_of([1, 2**64 - 1]), 2, ODD).shape == (2, *ODD)
    with pytest.raises(UserError, match="a list of 2 for 3 pictures"):
        drawn_noise(generators_of([1, 2]), 3, ODD)
