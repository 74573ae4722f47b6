"""Bytes by formula are those of packed states."""

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


def test_a_mean_context_is_that_of_its_lengths():
    tokens, shape = TokenHistogram.of([(10, 1), (30, 1)]), StatesShape(layers=2, dim=64)
    assert mean_at_rest("int8", tokens, shape) == pytest.approx(at_rest("int8", 20, shape), abs=64)
