"""Bytes by formula are those of packed states; histograms say what they were made of."""

import pytest
import torch

from mos.planning.sizes import StatesShape, at_rest, mean_at_rest
from mos.planning.tokens import TokenHistogram
from mos.states.calibration import Calibration
from mos.states.quantise import quantise


@pytest.mark.parametrize("format", ["int8", "int4"])
@pytest.mark.parametrize(("tokens", "layers", "dim", "massive"), [(7, 7, 384, 4), (3, 5, 96, 0), (11, 3, 128, 2)])
def test_quantised_sizes_are_those_of_packed_states(format, tokens, layers, dim, massive):
    aside = torch.arange(massive, dtype=torch.int32).expand(layers, -1)
    calibration = Calibration(torch.zeros(layers, dim).bfloat16(), torch.ones(layers, dim).bfloat16(), aside)
    packed = quantise(torch.randn(tokens, layers, dim).bfloat16(), calibration, format)
    padding = at_rest(format, tokens, StatesShape(layers, dim, massive)) - packed.nbytes
    assert 0 <= padding < 2 * 64


@pytest.mark.parametrize("dim", [384, 4096, 5120])
def test_formats_keep_to_their_shares_of_raw_bytes(dim):
    shape = StatesShape(layers=7, dim=dim)
    for format, bound in (("bf16", 0.75), ("int8", 0.52), ("int4", 0.29)):
        assert at_rest(format, 200, shape) <= bound * shape.raw(200)


def test_an_8b_tower_writes_52_mb_a_sample():
    assert StatesShape(layers=32, dim=4096).raw(200) == pytest.approx(52.4e6, rel=0.001)


def test_histograms():
    tokens = TokenHistogram.of([(10, 1), (30, 2), (10, 1)])
    assert tokens.lengths == (10, 30)
    assert tokens.mean == 20
    assert (tokens.quantile(0.5), tokens.quantile(0.51), tokens.quantile(1)) == (10, 30, 30)
    assert tokens.padded_to(8).lengths == (16, 32)
    assert tokens.tokens_in_passes(1, rows=4) == pytest.approx(4 * 20)
    assert tokens.tokens_in_passes(2, rows=4) == pytest.approx(0.25 * 40 + 0.25 * 120 + 0.5 * 160)
    assert tokens.tokens_in_passes(1000, rows=4) == pytest.approx(1000 * 20, rel=0.01)
    assert TokenHistogram.of([(9, 3)]).tokens_in_passes(5, rows=4) == 72
    assert tokens.longer_by(5).lengths == (15, 35)
    assert tokens.bars(4) == "█▁▁█"
    assert TokenHistogram.of([(9, 3)]).bars() == "█"
    shape = StatesShape(layers=2, dim=64)
    assert mean_at_rest("int8", tokens, shape) == pytest.approx(at_rest("int8", 20, shape), abs=64)
    with pytest.raises(ValueError, match="positive weight"):
        TokenHistogram.of([(10, 0)])
