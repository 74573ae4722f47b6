import pytest
import torch

from mos.states.calibration import CalibrationSample
from mos.states.latents import pack_latent, unpack_latent
from mos.states.payload import ALIGNMENT, StateCodec
from mos.states.quantise import dequantise
from tests.mos.states.towers_like import random_states

FORMATS = ("bf16", "int8", "int4")


def codec(
    format: str, layers: tuple[int, ...] = (0, 1, 2), dim: int = 96, massive: tuple[int, ...] = (5,)
) -> StateCodec:
    if format == "bf16":
        return StateCodec("bf16", layers, dim)
    sample = CalibrationSample()
    for seed in range(4):
        sample.add(random_states(40, max(layers) + 1, dim, massive, seed)[:, list(layers)])
    return StateCodec(format, layers, dim, sample.learn())


@pytest.mark.parametrize("num_tokens", [1, 2, 63, 200])
def test_bf16_is_exact_and_smaller(num_tokens: int) -> None:
    states = random_states(num_tokens, dim=384)
    table = codec("bf16", dim=384)
    payload = table.pack(table.quantise(states))
    assert torch.equal(table.decode(payload, num_tokens), states)
    assert len(payload) < 0.75 * states.nbytes


def test_bf16_keeps_every_bit_pattern_a_tower_can_give() -> None:
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    finite = patterns[patterns.isfinite()].view(-1, 1, 4)
    table = StateCodec("bf16", (0,), 4)
    unpacked = table.decode(table.pack(table.quantise(finite)), len(finite))
    assert torch.equal(unpacked.view(torch.int16), finite.view(torch.int16))


@pytest.mark.parametrize("dim", [32, 96, 384])
@pytest.mark.parametrize("format", ["int8", "int4"])
def test_quantised_planes_come_back_as_they_were(format: str, dim: int) -> None:
    table = codec(format, dim=dim)
    for num_tokens in (1, 7, 50):
        packed = table.quantise(random_states(num_tokens, dim=dim, massive=(5,), seed=50))
        read = table.unpack(table.pack(packed), num_tokens)
        for plane in ("codes", "scales", "massive"):
            assert torch.equal(getattr(read, plane), getattr(packed, plane))
        assert torch.equal(dequantise(read), dequantise(packed))


@pytest.mark.parametrize(("format", "row_bytes"), [("int8", (384, 6, 2)), ("int4", (192, 12, 2))])
def test_a_row_stands_at_a_fixed_aligned_place(format: str, row_bytes: tuple[int, int, int]) -> None:
    table = codec(format, dim=384)
    packed = table.quantise(random_states(5, dim=384, massive=(5,)))
    payload = table.pack(packed)
    start = 0
    for plane, size in zip((packed.codes, packed.scales, packed.massive), row_bytes, strict=True):
        start += -start % ALIGNMENT
        row = 3 * 3 + 1
        stored = payload[start + row * size : start + (row + 1) * size]
        assert stored == plane[3, 1].contiguous().view(torch.uint8).numpy().tobytes()
        start += 15 * size
    assert start == len(payload)


@pytest.mark.parametrize(("format", "mark"), [("bf16", 0.75), ("int8", 0.52), ("int4", 0.29)])
def test_bytes_are_within_the_marks(format: str, mark: float) -> None:
    table = codec(format, dim=384)
    states = random_states(50, dim=384, massive=(5,))
    assert len(table.pack(table.quantise(states))) <= mark * states.nbytes


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_of_some_layers_holds_just_those(format: str) -> None:
    layers = (0, 2, 5)
    table = codec(format, layers)
    states = random_states(9, 6, massive=(5,))
    payload = table.pack(table.quantise(states))
    assert table.decode(payload, 9).shape == (9, 3, 96)
    if format == "bf16":
        assert torch.equal(table.decode(payload, 9), states[:, layers])
    whole = codec(format, tuple(range(6)))
    assert len(payload) < 0.52 * len(whole.pack(whole.quantise(states))) + 3 * ALIGNMENT


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_hold_the_codec(format: str) -> None:
    table = codec(format, (0, 2, 5))
    read = StateCodec.from_metadata(table.metadata())
    assert read.identity == table.identity
    assert (read.format, read.layers, read.dim) == (table.format, table.layers, table.dim)
    states = random_states(3, 6, massive=(5,))
    assert read.pack(read.quantise(states)) == table.pack(table.quantise(states))


def test_everything_that_decides_the_bytes_changes_the_identity() -> None:
    tables = [codec(format, layers) for format in FORMATS for layers in ((0, 1, 2), (0, 2))]
    tables += [codec("int8", dim=64), codec("int8", massive=())]
    assert len({table.identity for table in tables}) == len(tables)


def test_damaged_or_foreign_metadata_is_refused() -> None:
    metadata = codec("int8").metadata()
    with pytest.raises(ValueError, match="sha256"):
        StateCodec.from_metadata(metadata | {"calibration": codec("int8", massive=()).metadata()["calibration"]})
    with pytest.raises(ValueError, match="version 0"):
        StateCodec.from_metadata(metadata | {"codec_version": "0"})
    with pytest.raises(ValueError, match="version None"):
        StateCodec.from_metadata({"format": "bf16", "dim": "4"})


@pytest.mark.parametrize("format", FORMATS)
def test_what_does_not_fit_the_table_is_refused(format: str) -> None:
    table = codec(format)
    packed = table.quantise(random_states(3))
    with pytest.raises(ValueError, match="the table holds"):
        table.pack(packed.select([0, 1]))
    with pytest.raises(ValueError, match="a payload of"):
        table.unpack(table.pack(packed), 4)
    with pytest.raises(ValueError, match="a payload of"):
        table.unpack(table.pack(packed)[:-1], 3)


def test_latents_round_trip_in_float16() -> None:
    latent = torch.randn(12, 4, 6, generator=torch.Generator().manual_seed(0))
    back = unpack_latent(bytearray(pack_latent(latent)), 12, (4, 6))
    assert back.dtype == torch.float32
    assert torch.equal(back, latent.half().float())
    with pytest.raises(ValueError, match="not finite"):
        pack_latent(torch.full((1, 1, 1), 1e6))
    with pytest.raises(ValueError, match="no float16 latent"):
        unpack_latent(bytearray(b"1234"), 12, (4, 6))
