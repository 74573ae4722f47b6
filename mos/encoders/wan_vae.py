"""The Wan 2.2 VAE on single frames: 16x16 pixels become one latent cell of 48 channels, in float32.

Dimension key
    batch           images of one bucket
    height, width   px
    h, w            latent grid: height / 16
"""

from typing import Any, Self

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mos.encoders.pass_budget import PassBudget
from mos.encoders.vae import PASS_MB, RandomWan, WanConfig, require_multiple
from mos.encoders.wan_frames import WanFrames
from mos.encoders.weights import Checkpoint, digest_weights, freeze, load_autoencoder, locate
from mos.errors import UserError
from mos.fingerprint import fingerprint

CODE_VERSION = 2
"""Raise it when a latent changes: every table of older latents is then left aside."""

CHANNELS = 48
STRIDE = 16

RANDOM_STD = 0.1
"""Deviation of the posterior means of randomly drawn weights, measured on photographs at 96 px."""


class WanCodec:
    """A frozen AutoencoderKLWan; latents are the posterior mean, normalised by the model's own channel statistics."""

    channels = CHANNELS
    stride = STRIDE

    def __init__(self, vae: Any, codec_id: str, pass_mb: int = PASS_MB) -> None:
        """Takes the VAE over, see `WanFrames`."""
        self._frames = WanFrames(vae)
        self._device = vae.device
        self._budget = PassBudget(pass_mb * 2**20, vae.device)
        self.codec_id = codec_id
        statistics = torch.tensor([vae.config.latents_mean, vae.config.latents_std], device=vae.device)
        self._mean, self._std = statistics.view(2, 1, CHANNELS, 1, 1)

    @classmethod
    def load(cls, config: WanConfig, device: str = "cpu", pass_mb: int = PASS_MB) -> Self:
        """Load by path or pinned hub id, or draw the random weights that the config asks for.

        Raises:
            UserError: the weights are missing, incomplete or of another architecture or geometry.
        """
        vae = (
            build_random(config.random)
            if config.random is not None
            else load_autoencoder("AutoencoderKLWan", _checkpoint(config))
        )
        if (vae.config.z_dim, vae.config.scale_factor_spatial) != (CHANNELS, STRIDE):
            raise UserError(
                f"the VAE has {vae.config.z_dim} channels at {vae.config.scale_factor_spatial}x, Wan 2.2 has "
                f"{CHANNELS} at {STRIDE}x: correct `path`"
            )
        return cls(vae.to(device), codec_id(config), pass_mb)

    @torch.inference_mode()
    def encode(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 48 h w"]:
        """Normalised posterior means, float32 on the CPU."""
        require_multiple(images, STRIDE)
        return self._budget.run(self._encode, images, images.shape[-2] * images.shape[-1], _strips(images.shape[-2]))

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "batch 48 h w"]) -> UInt8[Tensor, "batch 3 height width"]:
        """Images; values outside the valid range are clipped."""
        height, width = (STRIDE * side for side in latents.shape[-2:])
        return self._budget.run(self._decode, latents, height * width, _strips(height))

    def _encode(self, images: Tensor, rows: int | None) -> Tensor:
        frames = images.to(self._device).float() / 127.5 - 1
        return (self._frames.encode(frames, rows) - self._mean) / self._std

    def _decode(self, latents: Tensor, rows: int | None) -> Tensor:
        raw = latents.to(self._device).float() * self._std + self._mean
        return ((self._frames.decode(raw, rows) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _strips(height: int) -> list[int | None]:
    """Whole pictures, then strips of half the height and so on down to one row of latent cells."""
    cells, strips = height // STRIDE, list[int | None]([None])
    while cells > 1:
        cells = -(-cells // 2)
        strips.append(cells * STRIDE)
    return strips


def _checkpoint(config: WanConfig) -> Checkpoint:
    assert config.path is not None
    return locate(config.path, config.revision, config.subfolder)


def build_random(config: RandomWan) -> Any:
    """The geometry of Wan 2.2 with few channels inside, weights drawn from the seed."""
    from diffusers import AutoencoderKLWan

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        vae = AutoencoderKLWan(
            base_dim=config.base_dim,
            decoder_base_dim=config.base_dim,
            z_dim=CHANNELS,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=config.num_res_blocks,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * CHANNELS,
            latents_std=[RANDOM_STD] * CHANNELS,
            is_residual=True,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_spatial=STRIDE,
            scale_factor_temporal=4,
        )
    return freeze(vae)


def codec_id(config: WanConfig) -> str:
    """Family and 12 hex digits over the weights and channel statistics, wherever they stand.

    Raises:
        UserError: there is no such checkpoint.
    """
    if config.random is None:
        weights = _checkpoint(config).identity
    else:
        weights = digest_weights(build_random(config.random).state_dict())
    return f"wan-{fingerprint(weights=weights, code=CODE_VERSION)[:12]}"
