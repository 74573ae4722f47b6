import pytest
import torch
from pydantic import ValidationError

from mos.encoders.load import load_codec
from mos.encoders.vae import PixelConfig, RandomWan, WanConfig, require_multiple
from mos.errors import UserError
from mos.states.latents import pack_latent, unpack_latent
from tests.mos.encoders.pictures import pictures


@pytest.mark.parametrize(("stride", "scale"), [(1, 1.0), (2, 1.0), (4, 2.0), (2, 0.3)])
def test_pixels_come_back_exactly_also_through_the_table(stride: int, scale: float) -> None:
    codec = load_codec(PixelConfig(stride=stride, scale=scale))
    images = torch.cat(
        [pictures(2, 3, 16, 24), torch.arange(384).remainder(256).byte().view(1, 1, 16, 24).expand(1, 3, -1, -1)]
    )
    latents = codec.encode(images)
    assert latents.shape == (3, 3 * stride**2, 16 // stride, 24 // stride)
    assert latents.abs().max() <= scale
    stored = torch.stack(
        [unpack_latent(bytearray(pack_latent(latent)), codec.channels, tuple(latent.shape[1:])) for latent in latents]
    )
    assert torch.equal(codec.decode(stored), images)


def test_pixel_decode_clips() -> None:
    codec = load_codec(PixelConfig())
    decoded = codec.decode(torch.tensor([-3.0, 3.0]).view(2, 1, 1, 1).expand(2, 12, 2, 2))
    assert (decoded[0] == 0).all()
    assert (decoded[1] == 255).all()


@pytest.mark.parametrize(("shape", "stride"), [((1, 3, 15, 16), 2), ((1, 3, 16, 15), 2), ((0, 3, 32, 40), 16)])
def test_sides_must_divide_into_cells(shape: tuple[int, ...], stride: int) -> None:
    message = f"an image of {shape[2]}x{shape[3]} px .*: choose buckets whose sides are multiples of {stride}"
    with pytest.raises(UserError, match=message):
        require_multiple(pictures(*shape), stride)
    require_multiple(pictures(1, 3, 2 * stride, stride), stride)


@pytest.mark.parametrize("sources", [{}, {"path": "owner/name", "random": RandomWan()}])
def test_a_wan_codec_has_one_source_of_weights(sources: dict) -> None:
    with pytest.raises(ValidationError, match="exactly one of `path` and `random`"):
        WanConfig(**sources)
