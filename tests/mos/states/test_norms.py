import pytest
import torch

from mos.states.calibration import CalibrationSample
from mos.states.norms import inverse_rms
from mos.states.quantise import dequantise, quantise


@pytest.mark.parametrize("format", ["bf16", "int8", "int4"])
def test_packed_states_have_the_size_of_what_they_stand_for(format):
    sizes = torch.tensor([1.0, 3, 10, 30, 100])[:, None]
    states = (sizes * torch.randn(7, 5, 96, generator=torch.Generator().manual_seed(0))).bfloat16()
    sample = CalibrationSample()
    sample.add(states)
    packed = quantise(states, sample.learn(), format)
    plain = dequantise(packed).double()
    expected = 1 / plain.square().mean(-1).sqrt()
    torch.testing.assert_close(inverse_rms(packed).double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(inverse_rms(dequantise(packed)), inverse_rms(packed))


def test_a_state_of_zeros_has_a_finite_size():
    assert inverse_rms(torch.zeros(2, 3, 8)).isfinite().all()
