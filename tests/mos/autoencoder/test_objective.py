"""The loss is 0 where pictures come back and latents are standard; `standardise` makes them so."""

import pytest
import torch

from mos.autoencoder.config import CodecConfig
from mos.autoencoder.objective import (
    CodecLoss,
    build_autoencoder,
    moments_loss,
    psnr,
    reconstruction_loss,
    standardise,
)

CONFIG = CodecConfig(resolution=32, stride=4, latent_channels=3, width=6, blocks=1, steps=1, latent_noise=0.0)


def pictures(number: int = 4) -> torch.Tensor:
    return torch.rand(number, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("stride", [2, 4, 8, 16])
def test_an_autoencoder_has_the_stride_and_channels_of_its_config(stride: int):
    vae = build_autoencoder(CONFIG.model_copy(update={"stride": stride}), 0)
    latents = vae.encode(torch.zeros(1, 3, 2 * stride, stride)).latent
    assert latents.shape == (1, 3, 2, 1)
    assert vae.decode(latents).sample.shape == (1, 3, 2 * stride, stride)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    first, same, other = (build_autoencoder(CONFIG, seed).encoder.conv_in.conv.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_reconstruction_loss_is_that_of_the_formula():
    assert reconstruction_loss(pictures(), pictures()) == 0
    assert reconstruction_loss(pictures() + 0.5, pictures()) == pytest.approx(0.75)


def test_moments_are_right_at_zero_mean_and_unit_deviation_alone():
    latents = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert moments_loss(latents) < 1e-3
    shifted, wide = latents.clone(), latents.clone()
    shifted[:, 1] += 1.0
    wide[:, 2] *= 3.0
    assert moments_loss(shifted) == pytest.approx(1 / 3, rel=0.1)
    assert moments_loss(wide) == pytest.approx(4 / 3, rel=0.1)


def test_standardised_latents_have_zero_mean_and_unit_deviation_by_channel():
    vae = build_autoencoder(CONFIG, 0).requires_grad_(False)
    raw = vae.encode(pictures()).latent
    standardise(vae, raw)
    latents = vae.encode(pictures()).latent.transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(1), torch.ones(3), atol=1e-4, rtol=0)


def test_a_frozen_encoder_gets_no_gradient_and_counts_no_moments():
    vae = build_autoencoder(CONFIG, 0)
    noise = torch.zeros(4, 3, 4, 6)
    both = CodecLoss(vae, CONFIG)(pictures(), noise)
    vae.encoder.requires_grad_(False)
    decoder = CodecLoss(vae, CONFIG)(pictures(), noise)
    latents = vae.encode(pictures()).latent
    assert (both - decoder).item() == pytest.approx(CONFIG.moments_weight * moments_loss(latents).item(), rel=1e-3)
    decoder.backward()
    assert all(parameter.grad is None for parameter in vae.encoder.parameters())
    assert all(parameter.grad is not None for parameter in vae.decoder.parameters())


def test_the_noise_reaches_the_decoder():
    vae, noisy = build_autoencoder(CONFIG, 0), CONFIG.model_copy(update={"latent_noise": 0.5})
    noise = torch.ones(4, 3, 4, 6)
    with torch.no_grad():
        assert CodecLoss(vae, noisy)(pictures(), noise) != CodecLoss(vae, CONFIG)(pictures(), noise)


def test_psnr_is_in_decibel_of_the_8_bit_range():
    black = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    off = black.clone()
    off[1] = 255
    assert psnr(off, black).tolist() == [100.0, 0.0]
    assert psnr(black + 1, black)[0] == pytest.approx(48.13, abs=0.01)
