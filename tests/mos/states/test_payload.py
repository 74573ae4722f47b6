import pytest
import torch

from mos.states.latents import pack_latent, unpack_latent
from mos.states.payload import state_format


def states(num_tokens: int, num_states: int = 7, dim: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_tokens)
    return torch.randn(num_tokens, num_states, dim, generator=generator).mul(30).bfloat16()


@pytest.mark.parametrize("num_tokens", [1, 2, 63, 200])
def test_bf16_is_exact_and_row_addressed(num_tokens: int) -> None:
    original = states(num_tokens)
    payload = state_format("bf16", 7, 24).pack(original)
    assert len(payload) == num_tokens * 7 * 24 * 2
    assert torch.equal(state_format("bf16", 7, 24).unpack(payload, num_tokens), original)
    row = payload[(1 * 7 + 3) * 48 :][:48] if num_tokens > 1 else payload[3 * 48 : 4 * 48]
    assert torch.equal(torch.frombuffer(bytearray(row), dtype=torch.bfloat16), original[min(1, num_tokens - 1), 3])


def test_bf16_keeps_every_bit_pattern_a_tower_can_give() -> None:
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    finite = patterns[patterns.isfinite()].view(-1, 1, 4)
    codec = state_format("bf16", 1, 4)
    unpacked = codec.unpack(codec.pack(finite), len(finite))
    assert torch.equal(unpacked.view(torch.int16), finite.view(torch.int16))


def test_int8_halves_the_size_within_its_bound() -> None:
    original = states(50, dim=384)
    codec = state_format("int8", 7, 384)
    payload = codec.pack(original)
    assert len(payload) < 0.51 * original.numel() * 2
    error = (codec.unpack(payload, 50).float() - original.float()).abs()
    largest = original.float().abs().amax(dim=-1, keepdim=True)
    assert (error <= largest * (1 / 254 + 1 / 256)).all()
    zeros = torch.zeros(2, 7, 384, dtype=torch.bfloat16)
    assert torch.equal(codec.unpack(codec.pack(zeros), 2), zeros)


@pytest.mark.parametrize("name", ["bf16", "int8"])
def test_what_does_not_fit_the_table_is_refused(name: str) -> None:
    codec = state_format(name, 7, 24)
    with pytest.raises(ValueError, match="table holds"):
        codec.pack(states(3, num_states=6))
    with pytest.raises(ValueError, match="table holds"):
        codec.pack(states(3).float())
    with pytest.raises(ValueError, match="is not 4 tokens"):
        codec.unpack(codec.pack(states(3)), 4)


def test_latents_round_trip_in_float16() -> None:
    latent = torch.randn(12, 4, 6, generator=torch.Generator().manual_seed(0))
    back = unpack_latent(pack_latent(latent), 12, (4, 6))
    assert back.dtype == torch.float32
    assert torch.equal(back, latent.half().float())
    with pytest.raises(ValueError, match="not finite"):
        pack_latent(torch.full((1, 1, 1), 1e6))
    with pytest.raises(ValueError, match="no float16 latent"):
        unpack_latent(b"1234", 12, (4, 6))
