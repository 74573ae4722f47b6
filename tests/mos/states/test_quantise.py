import itertools

import pytest
import torch

from mos.states.calibration import Calibration
from mos.states.quantise import dequantise, quantise, steps
from tests.mos.states.towers_like import learn, random_states

MASSIVE = (5, 70)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return learn(*(random_states(40, massive=MASSIVE, seed=seed) for seed in range(1, 9)))


def test_steps_are_powers_of_the_eighth_root_of_two() -> None:
    table = steps(torch.device("cpu"))
    assert table[0] == 0
    assert table[128] == 1
    torch.testing.assert_close(table[2:] / table[1:-1], torch.full((254,), 2 ** (1 / 8)))


@pytest.mark.parametrize(("format", "bound"), [("int8", 0.008), ("int4", 0.11)])
def test_error_of_states_not_in_the_sample(calibration: Calibration, format: str, bound: float) -> None:
    states = random_states(64, massive=MASSIVE, seed=99)
    read = dequantise(quantise(states, calibration, format))
    white = (read.float() - states.float()) / calibration.std.float()
    assert white.norm() < bound * ((states.float() - calibration.mean.float()) / calibration.std.float()).norm()
    assert torch.equal(read[..., MASSIVE], states[..., MASSIVE])


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_values_are_exactly_the_documented_formula(calibration: Calibration, format: str) -> None:
    states = random_states(3, massive=MASSIVE, seed=7)
    packed = quantise(states, calibration, format)
    read = dequantise(packed)
    group = {"int8": 64, "int4": 32}[format]
    massive = calibration.massive.tolist()
    for token, layer, channel in itertools.product(range(3), range(3), (0, 1, 31, 32, 63, 64, 70, 95)):
        if channel in massive[layer]:
            expected = packed.massive[token, layer, massive[layer].index(channel)]
        else:
            if format == "int8":
                code = int(packed.codes[token, layer, channel])
            else:
                byte = int(packed.codes[token, layer, channel // 2])
                code = (byte >> 4 if channel % 2 else byte & 15) - 8
            scale = int(packed.scales[token, layer, channel // group])
            step = 2 ** ((scale - 128) / 8) if scale else 0.0
            mean, std = calibration.mean[layer, channel].float(), calibration.std[layer, channel].float()
            expected = (mean + std * step * code).bfloat16()
        torch.testing.assert_close(read[token, layer, channel], expected, atol=0, rtol=2**-8)


def test_int8_clips_no_value(calibration: Calibration) -> None:
    states = random_states(50, massive=MASSIVE, seed=3)
    states[7, 1, 33] = 77.0
    packed = quantise(states, calibration, "int8")
    error = (dequantise(packed).float() - states.float()).abs() / calibration.std.float()
    step = steps(torch.device("cpu"))[packed.scales.int()].repeat_interleave(64, dim=-1)[..., :96]
    rounding = states.float().abs() * 2**-8 / calibration.std.float()
    assert (error <= step / 2 + rounding + 1e-6).all()
    assert packed.codes.abs().max() <= 127


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_a_row_is_packed_alike_alone_and_in_company(calibration: Calibration, format: str) -> None:
    states = random_states(20, massive=MASSIVE, seed=4)
    together = quantise(states, calibration, format)
    for token in (0, 7, 19):
        alone = quantise(states[token : token + 1], calibration, format)
        assert torch.equal(alone.codes[0], together.codes[token])
        assert torch.equal(alone.scales[0], together.scales[token])


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_mean_states_and_far_ones_survive(calibration: Calibration, format: str) -> None:
    means = calibration.mean.expand(2, -1, -1).contiguous()
    packed = quantise(means, calibration, format)
    assert packed.scales.eq(0).all()
    assert torch.equal(dequantise(packed), means)
    far = means * 1e4
    read = dequantise(quantise(far, calibration, format))
    assert torch.cosine_similarity(read.float(), far.float(), dim=-1).min() > 0.98


def test_states_that_do_not_fit_are_refused(calibration: Calibration) -> None:
    states = random_states(2)
    with pytest.raises(ValueError, match="need a calibration"):
        quantise(states[:, :2], calibration, "int8")
    with pytest.raises(ValueError, match="need a calibration"):
        quantise(states, None, "int4")
    with pytest.raises(ValueError, match="is bf16"):
        quantise(states.float(), calibration, "int8")
