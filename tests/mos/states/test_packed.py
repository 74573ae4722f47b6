"""Packed states are joined, cut and judged without being unpacked."""

import itertools
from dataclasses import replace

import pytest
import torch

from mos.states.calibration import Calibration
from mos.states.packed import PackedStates, concatenate
from mos.states.payload import StateCodec
from mos.states.quantise import dequantise, quantise
from tests.mos.states.towers_like import learn, random_states

FORMATS = ("bf16", "int8", "int4")
MASSIVE = (5, 70)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return learn(*(random_states(40, massive=MASSIVE, seed=seed) for seed in range(1, 9)))


def packed_as(format: str, calibration: Calibration, num_tokens: int = 4) -> PackedStates:
    """One context of 3 layers x 96."""
    states = random_states(num_tokens, massive=MASSIVE, seed=num_tokens)
    return quantise(states, None if format == "bf16" else calibration, format)


def planes(packed: PackedStates) -> list[torch.Tensor]:
    return [plane for plane in (packed.codes, packed.scales, packed.massive) if plane is not None]


@pytest.mark.parametrize(("format", "row_bytes"), [("bf16", 192), ("int8", 96 + 2 + 4), ("int4", 48 + 3 + 4)])
def test_a_row_takes_what_its_format_says(calibration: Calibration, format: str, row_bytes: int) -> None:
    packed = packed_as(format, calibration)
    assert (packed.num_layers, packed.dim) == (3, 96)
    assert packed.nbytes == 4 * 3 * row_bytes


@pytest.mark.parametrize("format", FORMATS)
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


@pytest.mark.parametrize("format", FORMATS)
def test_batches_of_several_contexts_and_empty_ones_keep_their_bounds(calibration: Calibration, format: str) -> None:
    pair = concatenate([packed_as(format, calibration, 2), packed_as(format, calibration, 3)])
    empty = pair.tokens(0, 0, torch.tensor([0, 0]))
    joined = concatenate([pair, empty, pair])
    assert joined.offsets.tolist() == [0, 2, 5, 5, 7, 10]
    assert torch.equal(dequantise(joined), dequantise(pair).repeat(2, 1, 1))
    assert empty.is_finite()


def test_what_does_not_belong_together_is_refused(calibration: Calibration) -> None:
    packed = packed_as("int8", calibration)
    strangers = [packed_as("int4", calibration), packed_as("bf16", calibration)]
    for field in ("mean", "std", "massive"):
        other = replace(calibration, **{field: getattr(calibration, field) + 1})
        strangers.append(packed_as("int8", other))
    for stranger in strangers:
        with pytest.raises(ValueError, match="different tables"):
            concatenate([packed, stranger])
    with pytest.raises(ValueError, match="at least one"):
        concatenate([])


def test_equal_calibrations_are_of_one_table(calibration: Calibration) -> None:
    again = Calibration(calibration.mean.clone(), calibration.std.clone(), calibration.massive.clone())
    joined = concatenate([packed_as("int8", calibration), packed_as("int8", again)])
    assert torch.equal(joined.codes[:4], joined.codes[4:])


@pytest.mark.parametrize("format", FORMATS)
def test_parts_share_memory_and_clones_do_not(calibration: Calibration, format: str) -> None:
    packed = packed_as(format, calibration)
    before, shared = planes(packed.clone()), packed.tokens(1, 3, torch.tensor([0, 2])).select(slice(1, 3))
    for plane in planes(shared):
        plane.zero_()
    for plane, kept in zip(planes(packed), before, strict=True):
        assert not plane[1:3, 1:3].any()
        assert torch.equal(plane[0], kept[0])
        assert torch.equal(plane[:, 0], kept[:, 0])
        assert kept[1:3, 1:3].any()


@pytest.mark.parametrize("format", FORMATS)
def test_everything_moves_to_the_device(calibration: Calibration, format: str) -> None:
    moved = packed_as(format, calibration).to("meta")
    assert {plane.device.type for plane in (*planes(moved), moved.offsets)} == {"meta"}
    assert moved.calibration is None or moved.calibration.std.device.type == "meta"


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_zeros_stand_for_the_mean_but_for_massive_channels(calibration: Calibration, format: str) -> None:
    packed = packed_as(format, calibration)
    zeros = packed.zeros()
    expected = calibration.mean.clone()
    expected[:, MASSIVE] = 0
    assert torch.equal(dequantise(zeros), expected.expand(4, -1, -1))
    assert torch.equal(zeros.offsets, packed.offsets)
    assert packed.codes.any()


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
