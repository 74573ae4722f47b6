"""Frames by 2D convolutions, whole and in strips, are what diffusers' AutoencoderKLWan makes of them."""

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import Tensor

from mos.encoders.vae import RandomWan
from mos.encoders.wan_frames import FrameConv, WanFrames, in_strips
from mos.encoders.wan_vae import build_random

SIDES = ((48, 80), (112, 32), (16, 16))


@pytest.fixture(scope="module", params=[1, 2])
def both(request: pytest.FixtureRequest) -> tuple[AutoencoderKLWan, WanFrames]:
    """The same weights twice: as diffusers runs them, and by frames."""
    config = RandomWan(seed=4, num_res_blocks=request.param)
    return build_random(config), WanFrames(build_random(config))


def frames(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("sides", SIDES)
@torch.inference_mode()
def test_frames_are_encoded_and_decoded_as_videos_of_one_frame(
    both: tuple[AutoencoderKLWan, WanFrames], sides: tuple[int, int]
) -> None:
    plain, fast = both
    given = frames(*sides)
    latents = plain.encode(given[:, :, None]).latent_dist.mode()
    torch.testing.assert_close(fast.encode(given), latents[:, :, 0])
    decoded = plain.decode(latents).sample[:, :, 0]
    torch.testing.assert_close(fast.decode(latents[:, :, 0]).clamp(-1, 1), decoded)


@pytest.mark.parametrize("rows", [16, 32, 48, 96, 112, 400])
@torch.inference_mode()
def test_strips_of_any_height_give_the_same(both: tuple[AutoencoderKLWan, WanFrames], rows: int) -> None:
    _, fast = both
    given = frames(112, 48)
    latents = fast.encode(given)
    torch.testing.assert_close(fast.encode(given, rows), latents)
    torch.testing.assert_close(fast.decode(latents, rows), fast.decode(latents))


@torch.inference_mode()
def test_strips_that_reach_too_short_differ(both: tuple[AutoencoderKLWan, WanFrames]) -> None:
    """Or else the test above would hold for any reach."""
    _, fast = both
    block = fast.vae.decoder.up_blocks[0]
    given = torch.randn(1, block.in_dim, 1, 12, 6, generator=torch.Generator().manual_seed(2))
    whole = block(given, first_chunk=True)
    near = in_strips(lambda strip: block(strip, first_chunk=True), given, 4, 2 * len(block.resnets) + 2)
    torch.testing.assert_close(near, whole)
    short = in_strips(lambda strip: block(strip, first_chunk=True), given, 4, 1)
    assert (short - whole).abs().max() > 1e-4


def test_half_the_weights_and_more_are_gone(both: tuple[AutoencoderKLWan, WanFrames]) -> None:
    plain, fast = both
    sizes = [sum(weight.numel() for weight in vae.parameters()) for vae in (plain, fast.vae)]
    assert sizes[1] < sizes[0] / 2


def test_a_convolution_that_strides_is_refused() -> None:
    with pytest.raises(ValueError, match="stride"):
        FrameConv(WanCausalConv3d(2, 2, 3, stride=(1, 2, 2), padding=1))
