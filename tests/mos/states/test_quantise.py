import itertools

import pytest
import torch

from mos.states.calibration import Calibration, CalibrationSample
from mos.states.packed import PackedStates, concatenate
from mos.states.payload import StateCodec
from mos.states.quantise import dequantise, quantise, steps
from tests.mos.states.towers_like import random_states

MASSIVE = (5, 70)


def learn(*contexts: torch.Tensor) -> Calibration:
    sample = CalibrationSample()
    for states in contexts:
        sample.add(states)
    return sample.learn()


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


@pytest.mark.parametrize("format", ["bf16", "int8", "int4"])
def test_batches_join_split_and_drop_layers(calibration: Calibration, format: str) -> None:
    contexts = [random_states(length, massive=MASSIVE, seed=length) for length in (1, 5, 12)]
    given = None if format == "bf16" else calibration
    batch = concatenate([quantise(states, given, format) for states in contexts])
    assert batch.offsets.tolist() == [0, 1, 6, 18]
    assert (batch.num_layers, batch.dim) == (3, 96)
    for (start, end), states in zip(itertools.pairwise(batch.offsets.tolist()), contexts, strict=True):
        part = batch.tokens(start, end, torch.tensor([0, end - start]))
        assert torch.equal(dequantise(part), dequantise(quantise(states, given, format)))
    assert torch.equal(dequantise(batch.select([0, 2])), dequantise(batch)[:, [0, 2]])
    assert torch.equal(dequantise(batch.select(slice(1))), dequantise(batch)[:, :1])
    whole = quantise(torch.cat(contexts), given, format, batch.offsets)
    assert torch.equal(whole.codes, batch.codes)
    assert torch.equal(dequantise(batch.to("cpu")), dequantise(batch))


def test_what_does_not_belong_together_is_refused(calibration: Calibration) -> None:
    states = random_states(2)
    other = Calibration(calibration.mean, calibration.std * 2, calibration.massive)
    with pytest.raises(ValueError, match="different tables"):
        concatenate([quantise(states, calibration, "int8"), quantise(states, other, "int8")])
    with pytest.raises(ValueError, match="different tables"):
        concatenate([quantise(states, calibration, "int8"), quantise(states, calibration, "int4")])
    with pytest.raises(ValueError, match="at least one"):
        concatenate([])
    with pytest.raises(ValueError, match="need a calibration"):
        quantise(states[:, :2], calibration, "int8")
    with pytest.raises(ValueError, match="is bf16"):
        quantise(states.float(), calibration, "int8")


def test_finite_is_told_from_the_bits_of_every_bfloat16() -> None:
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    for value in (*values[::7].tolist(), torch.inf, -torch.inf, torch.nan, -torch.nan, 3.3e38, -3.3e38):
        states = torch.zeros(2, 1, 3, dtype=torch.bfloat16)
        states[1, 0, 2] = value
        packed = PackedStates("bf16", torch.tensor([0, 2]), states)
        assert packed.is_finite() == bool(states.isfinite().all())
        assert packed.zeros().is_finite()


@pytest.mark.parametrize("format", ["int8", "int4"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_quantised_states_that_were_no_number_are_known(format, value) -> None:
    """In a massive channel the value itself stays; in any other the scale of its group tells."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(6, 2, 96, generator=generator).bfloat16()
    states[:, :, 7] *= 100
    calibration = learn(states)
    assert (calibration.massive == 7).any()
    assert quantise(states, calibration, format).is_finite()
    for channel in (7, 40):
        bad = states.clone()
        bad[3, 1, channel] = value
        packed = quantise(bad, calibration, format)
        assert not packed.is_finite()
        codec = StateCodec(format, (0, 1), 96, calibration)
        with pytest.raises(ValueError, match="not finite"):
            codec.pack(packed)
        assert packed.zeros().is_finite()
        assert not codec.unknown(3).is_finite()
        assert [plane.shape for plane in planes(codec.unknown(6))] == [plane.shape for plane in planes(packed)]


def planes(packed: PackedStates) -> list[torch.Tensor]:
    return [packed.codes, packed.scales, packed.massive]
