"""What an autoencoder is trained for: pictures come back, and latents have the size that a diffusion model expects.

Dimension key
    batch           pictures of one bucket
    height, width   px
    channels, h, w  latent channels and grid
"""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mos.autoencoder.config import CodecConfig


def build_autoencoder(config: CodecConfig, generator_seed: int) -> Any:
    """A new AutoencoderDC; no residual block works at the picture's own size, where it would cost the most.

    Its weights lie channels last: a third more pictures a second on CPUs.
    """
    from diffusers import AutoencoderDC

    channels = (config.width, *config.channels)  # the picture's own size, without a block, keeps its entry
    blocks = (0,) + (config.blocks,) * (len(channels) - 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_seed)
        return AutoencoderDC(
            latent_channels=config.latent_channels,
            encoder_block_out_channels=channels,
            decoder_block_out_channels=channels,
            encoder_layers_per_block=blocks,
            decoder_layers_per_block=blocks,
            encoder_qkv_multiscales=((),) * len(channels),
            decoder_qkv_multiscales=((),) * len(channels),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            encoder_out_shortcut=False,  # `standardise` folds the latents' moments into the last convolution
        ).to(memory_format=torch.channels_last)


class CodecLoss(nn.Module):
    """Loss of a batch of pictures; a module, so that DistributedDataParallel can wrap it."""

    def __init__(self, vae: Any, config: CodecConfig) -> None:
        super().__init__()
        self.vae = vae
        self._config = config

    def forward(
        self, pictures: Float[Tensor, "batch 3 height width"], noise: Float[Tensor, "batch channels h w"]
    ) -> Float[Tensor, ""]:
        """L1 and squared error of pictures in [-1, 1] behind noisy latents, and the moments of the latents."""
        latents = self.vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent
        predicted = self.vae.decode(latents + self._config.latent_noise * noise).sample
        loss = reconstruction_loss(predicted, pictures)
        if latents.requires_grad:
            loss = loss + self._config.moments_weight * moments_loss(latents)
        return loss


def reconstruction_loss(
    predicted: Float[Tensor, "batch 3 height width"], pictures: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, ""]:
    """Mean of |d| + d²: the square for PSNR, the absolute value for flat colours and clean edges."""
    difference = predicted - pictures
    return difference.abs().mean() + difference.square().mean()


def moments_loss(latents: Float[Tensor, "batch channels h w"]) -> Float[Tensor, ""]:
    """Mean over channels of mean² + (deviation - 1)²; 0 for zero mean and unit variance."""
    by_channel = latents.transpose(0, 1).flatten(1)
    return (by_channel.mean(1).square() + (by_channel.std(1) - 1).square()).mean()


@torch.no_grad()
def standardise(vae: Any, latents: Float[Tensor, "batch channels h w"]) -> None:
    """Fold the mean and the deviation of these latents, by channel, into the encoder's last convolution."""
    last = vae.encoder.conv_out
    by_channel = latents.transpose(0, 1).flatten(1)
    mean, std = by_channel.mean(1), by_channel.std(1).clamp_min(1e-6)
    last.weight.div_(std[:, None, None, None])
    last.bias.sub_(mean).div_(std)


def psnr(
    predicted: UInt8[Tensor, "batch 3 height width"], pictures: UInt8[Tensor, "batch 3 height width"]
) -> Float[Tensor, " batch"]:
    """Peak signal-to-noise ratio of each picture, dB; 8-bit, so never above 100."""
    error = (predicted.float() - pictures.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(255**2 / error.clamp_min(255**2 * 1e-10))
