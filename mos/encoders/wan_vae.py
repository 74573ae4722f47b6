"""The Wan 2.2 VAE on single frames: 16x16 pixels become one latent cell of 48 channels, in float32."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from mos.encoders.frozen_autoencoder import FrozenAutoencoder
from mos.encoders.vae import PASS_MB, RandomWan, WanConfig
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


class WanCodec(FrozenAutoencoder):
    """A frozen AutoencoderKLWan; latents are the posterior mean, normalised by the model's own channel statistics."""

    def __init__(
        self,
        vae: Any,
        codec_id: str,
        pass_mb: int = PASS_MB,
        device: torch.device | None = None,
        *,
        shared: bool = False,
    ) -> None:
        """Read and write pictures with an AutoencoderKLWan.

        Args:
            vae: taken over, unless it is shared, see `WanFrames`.
            codec_id: names its latents.
            pass_mb: MiB that a pass may take beside the weights.
            device: where it runs; left out: where it is.
            shared: leave the VAE as it is, and heed its tiling, slicing and hooks.
        """
        statistics = vae.config.latents_mean, vae.config.latents_std
        super().__init__(codec_id, STRIDE, statistics, device or vae.device, pass_mb)
        self._owner = vae if shared else None
        self._vae = WanFrames(vae, shared=shared)

    @classmethod
    def load(cls, config: WanConfig, device: str = "cpu", pass_mb: int = PASS_MB) -> Self:
        """Load by path or pinned hub id, or draw the random weights that the config asks for.

        Raises:
            UserError: the weights are missing, incomplete or of another architecture or geometry.
        """
        return cls(load_vae(config).to(device), codec_id(config), pass_mb)

    def strips(self, height: int) -> list[int | None]:
        """Whole pictures, then strips of half the height and so on down to one row of latent cells."""
        cells, strips = height // STRIDE, list[int | None]([None])
        while cells > 1:
            cells = -(-cells // 2)
            strips.append(cells * STRIDE)
        return strips

    def raw_latents(self, frames: Tensor, rows: int | None) -> Tensor:
        """Posterior means."""
        return self._by_frames(self._vae.encode, frames, rows)

    def frames(self, raw: Tensor, rows: int | None) -> Tensor:
        """Not clipped."""
        return self._by_frames(self._vae.decode, raw, rows)

    def _by_frames(self, work: Callable[[Tensor, int | None], Tensor], given: Tensor, rows: int | None) -> Tensor:
        """Encode or decode in the dtype of the weights; a shared VAE's tiles are strips of their height."""
        owner = self._owner
        if owner is None:
            return work(given, rows)
        if hasattr(owner, "_hf_hook"):  # of accelerate, which diffusers calls in `encode` and `decode` alone
            owner._hf_hook.pre_forward(owner)
        if rows is None and owner.use_tiling:
            rows = max(STRIDE, owner.tile_sample_min_height // STRIDE * STRIDE)
        pictures = given.to(owner.dtype).split(1 if owner.use_slicing else len(given))
        return torch.cat([work(some, rows) for some in pictures])


def load_vae(config: WanConfig) -> Any:
    """The VAE that a config names, on the CPU in float32.

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
    return vae


def _checkpoint(config: WanConfig) -> Checkpoint:
    assert config.path is not None
    return locate(config.path, config.revision, config.subfolder)


def build_random(config: RandomWan) -> Any:
    """The geometry of Wan 2.2 with few channels inside, weights drawn from the seed."""
    widths = {"base_dim": config.base_dim, "decoder_base_dim": config.base_dim, "dim_mult": [1, 1, 1, 1]}
    return draw_wan(config.seed, num_res_blocks=config.num_res_blocks, **widths)


def draw_wan(seed: int, **widths: Any) -> Any:
    """An AutoencoderKLWan of the geometry of Wan 2.2 and of some widths, as the class names them, of random weights."""
    from diffusers import AutoencoderKLWan

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKLWan(
            z_dim=CHANNELS,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * CHANNELS,
            latents_std=[RANDOM_STD] * CHANNELS,
            is_residual=True,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_spatial=STRIDE,
            scale_factor_temporal=4,
            **widths,
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
