"""Contexts of any lengths in one batch: every token keeps its sample, with padding and without."""

import pytest
import torch

from mos.model.context import Context, ContextLayout
from mos.states.calibration import Calibration
from mos.states.quantise import dequantise, quantise

LENGTHS = (2, 3, 1)
FORMATS = ("plain", "bf16", "int8", "int4")


def states_of(*lengths: int) -> list[torch.Tensor]:
    """Contexts of four hidden states, 32 wide, of values that bf16 has."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, 4, 32, generator=generator).bfloat16().float() for length in lengths]


def context_of(format: str, *lengths: int) -> Context:
    """The same contexts as a tower gives them, or packed."""
    contexts = states_of(*lengths)
    if format == "plain":
        return Context.of(contexts)
    states = torch.cat(contexts).bfloat16()
    calibration = Calibration(states.mean(0), states.std(0), torch.zeros(4, 1, dtype=torch.int32))
    return Context.of(quantise(states, calibration, format, torch.tensor([0, *lengths]).cumsum(0)))


def plain(context: Context) -> torch.Tensor:
    """The states that a context holds or stands for."""
    return context.states if isinstance(context.states, torch.Tensor) else dequantise(context.states).float()


def test_a_layout_says_where_every_token_stands():
    layout = ContextLayout.of(torch.tensor([0, 2, 5, 6]))
    assert layout.mask.int().tolist() == [[1, 1, 0], [1, 1, 1], [1, 0, 0]]
    assert layout.rows.tolist() == [0, 1, 3, 4, 5, 6]


def test_padding_is_zero_and_comes_off_again():
    layout = ContextLayout.of(torch.tensor([0, 2, 5, 6]))
    padded = layout.pad(torch.arange(1.0, 7))
    assert padded.tolist() == [[1, 2, 0], [3, 4, 5], [6, 0, 0]]
    assert layout.unpad(padded).tolist() == [1, 2, 3, 4, 5, 6]
    tokens = torch.randn(6, 2, 5)
    assert layout.pad(tokens).shape == (3, 3, 2, 5)
    assert torch.equal(layout.unpad(layout.pad(tokens)), tokens)


def test_a_context_without_tokens_is_all_padding():
    layout = ContextLayout.of(torch.tensor([0, 0, 2]))
    assert layout.mask.int().tolist() == [[0, 0], [1, 1]]
    assert layout.pad(torch.tensor([7, 8])).tolist() == [[0, 0], [7, 8]]


@pytest.mark.parametrize("format", FORMATS)
def test_the_router_sees_the_embedding_padded(format):
    context = context_of(format, *LENGTHS)
    assert len(context) == 3
    assert context.embedding.shape == (3, 3, 32)
    assert torch.equal(context.embedding[context.layout.mask].float(), plain(context)[:, 0])
    assert not context.embedding[~context.layout.mask].any()


@pytest.mark.parametrize("format", FORMATS)
def test_a_slice_is_its_samples_padded_as_all_were(format):
    context = context_of(format, *LENGTHS, 4)
    part = context[1:3]
    assert part.layout.offsets.tolist() == [0, 3, 4]
    assert torch.equal(part.layout.mask, context.layout.mask[1:3])
    assert torch.equal(plain(part), plain(context)[2:6])
    assert torch.equal(part.layout.pad(plain(part)), context.layout.pad(plain(context))[1:3])
    if format != "plain":
        assert torch.equal(part.states.offsets, part.layout.offsets)


@pytest.mark.parametrize(
    ("samples", "lengths"),
    [(slice(2), [2, 3]), (slice(-1, None), [1]), (slice(1, 9), [3, 1]), (slice(None), [2, 3, 1])],
)
def test_slices_may_be_open(samples, lengths):
    assert context_of("plain", *LENGTHS)[samples].layout.offsets.diff().tolist() == lengths


def test_parts_of_a_part_are_parts_of_the_whole():
    context = context_of("int8", *LENGTHS, 4)
    part, direct = context[1:][1:], context[2:]
    assert torch.equal(plain(part), plain(direct))
    for ours, theirs in zip(part.layout, direct.layout, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("format", FORMATS)
def test_sizes_are_those_of_the_layers_that_are_routed(format):
    context = context_of(format, *LENGTHS)
    expected = plain(context)[:, 1:].double().square().mean(-1).rsqrt()
    torch.testing.assert_close(context.inverse_rms.double(), expected, rtol=1e-5, atol=0)


def test_sizes_are_computed_once():
    context = context_of("int8", *LENGTHS)
    assert context.inverse_rms is context.inverse_rms


@pytest.mark.parametrize("format", FORMATS)
def test_everything_moves_to_the_device(format):
    moved = context_of(format, *LENGTHS).to("meta")
    codes = moved.states if format == "plain" else moved.states.codes
    assert {part.device.type for part in (codes, *moved.layout)} == {"meta"}


def test_only_states_that_are_not_packed_are_cast():
    assert context_of("plain", *LENGTHS).to("cpu", torch.float64).states.dtype == torch.float64
    assert context_of("plain", *LENGTHS).to("cpu").states.dtype == torch.float32
    packed = context_of("int8", *LENGTHS)
    assert torch.equal(packed.to("cpu", torch.float64).states.codes, packed.states.codes)
