"""The average of the weights."""

import pytest
import torch

from mos.training.ema import Ema


class Weights(dict[str, torch.Tensor]):
    """What the average asks an engine for."""

    synced: int = 0

    def weights(self) -> dict[str, torch.Tensor]:
        return self

    def sync(self) -> None:
        self.synced += 1


def test_the_average_follows_its_formula():
    weights = {"w": torch.zeros(3)}
    ema = Ema(weights, decay=0.5)
    expected = 0.0
    for update in range(20):
        weights["w"].fill_(float(update))
        ema.update(weights)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    assert ema.average["w"].tolist() == pytest.approx([expected] * 3)


def test_a_long_average_forgets_its_start_at_once():
    weights = {"w": torch.full((1,), 100.0)}
    ema = Ema(weights, decay=0.9999)
    weights["w"].zero_()
    for _ in range(10):
        ema.update(weights)
    assert ema.average["w"].item() < 1e-2


def test_swapping_lends_the_average_and_gives_the_weights_back():
    weights = Weights(w=torch.tensor([1.0]))
    ema = Ema(weights, decay=0.9)
    ema.average["w"].fill_(7.0)
    with ema.swapped_into(weights):
        assert weights["w"].item() == 7.0
        assert weights.synced == 1
    assert weights["w"].item() == 1.0
    assert weights.synced == 2
    assert ema.average["w"].item() == 7.0


def test_an_error_while_swapped_gives_the_weights_back():
    weights = Weights(w=torch.tensor([1.0]))
    ema = Ema(weights, decay=0.9)
    ema.average["w"].fill_(7.0)

    def draw() -> None:
        with ema.swapped_into(weights):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        draw()
    assert weights["w"].item() == 1.0
