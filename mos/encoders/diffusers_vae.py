"""An image autoencoder of diffusers by path or pinned hub id, its latents scaled and shifted as its config says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from mos.encoders.frozen_autoencoder import FrozenAutoencoder
from mos.encoders.vae import PASS_MB, DiffusersConfig
from mos.encoders.weights import Checkpoint, first_line, load_autoencoder, locate
from mos.errors import UserError
from mos.fingerprint import fingerprint

CODE_VERSION = 1
"""Raise it when a latent changes: every table of older latents is then left aside."""

LEVELS = {
    "AutoencoderKL": "block_out_channels",
    "AutoencoderTiny": "encoder_block_out_channels",
    "AutoencoderDC": "encoder_block_out_channels",
}
"""Classes that are read, and the key of their config with an entry a level; each but the last halves the sides."""


@dataclass(frozen=True)
class Geometry:
    """A checkpoint's class and shape, and what brings its raw latents to zero mean and unit variance."""

    class_name: str
    channels: int
    stride: int
    mean: tuple[float, ...]
    """Of each channel of the raw latents."""
    std: tuple[float, ...]


class DiffusersCodec(FrozenAutoencoder):
    """A frozen autoencoder of diffusers, in float32; latents of a distribution are its mean."""

    def __init__(
        self,
        vae: Any,
        geometry: Geometry,
        codec_id: str,
        pass_mb: int = PASS_MB,
        device: torch.device | None = None,
    ) -> None:
        """Read and write pictures with a module of diffusers, in its own dtype.

        Args:
            vae: of one of `LEVELS`; its own tiling and slicing hold.
            geometry: of it.
            codec_id: names its latents.
            pass_mb: MiB that a pass may take beside the weights.
            device: where it runs; left out: where it is.
        """
        super().__init__(codec_id, geometry.stride, (geometry.mean, geometry.std), device or vae.device, pass_mb)
        self._vae = vae

    @classmethod
    def load(cls, config: DiffusersConfig, device: str = "cpu", pass_mb: int = PASS_MB) -> Self:
        """Load by path or pinned hub id.

        Raises:
            UserError: the weights are missing, incomplete, of a class that is not read, or without normalisation.
        """
        vae = load_vae(config).to(device)
        return cls(vae, geometry_of(vae.config, config.path, type(vae).__name__), codec_id(config), pass_mb)

    def raw_latents(self, frames: Tensor, rows: int | None) -> Tensor:
        """Of whole pictures."""
        return _raw_latents(self._vae.encode(frames.to(self._vae.dtype)))

    def frames(self, raw: Tensor, rows: int | None) -> Tensor:
        """Whole, and as the class gives them."""
        return self._vae.decode(raw.to(self._vae.dtype)).sample


def load_vae(config: DiffusersConfig) -> Any:
    """The module that a config names, on the CPU in float32.

    Raises:
        UserError: the weights are missing, incomplete, of a class that is not read, or without normalisation.
    """
    checkpoint = locate(config.path, config.revision, config.subfolder)
    geometry = read_geometry(checkpoint)
    vae = load_autoencoder(geometry.class_name, checkpoint)
    side = 4 * geometry.stride
    found = DiffusersCodec(vae, geometry, "").encode(torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape
    if tuple(found) != (1, geometry.channels, 4, 4):
        raise UserError(
            f"{checkpoint.path} makes {found[1]} channels of {found[2]}x{found[3]} from {side}x{side} px, its "
            f"config says {geometry.channels} of 4x4: correct its config.json"
        )
    return vae


def read_geometry(checkpoint: Checkpoint) -> Geometry:
    """What a checkpoint's config.json says of it.

    Raises:
        UserError: it has none, names a class that is not read, or does not say how latents are normalised.
    """
    from diffusers import AutoencoderKL  # any class reads any config

    try:
        config: Mapping[str, Any] = AutoencoderKL.load_config(**checkpoint.options())
    except (OSError, ValueError) as error:
        raise UserError(f"{checkpoint.path} has no readable config.json: {first_line(error)}") from error
    return geometry_of(config, checkpoint.path, config.get("_class_name"))


def geometry_of(config: Mapping[str, Any], path: str, name: str | None) -> Geometry:
    """What the config of a module says of it.

    Args:
        config: of the module.
        path: where it stands, or what else it is known by.
        name: of its class.

    Raises:
        UserError: the class is not read, or the config does not say how latents are normalised.
    """
    if name not in LEVELS:
        raise UserError(
            f"{path} is a {name}, type 'diffusers' reads {', '.join(LEVELS)}: correct `path` or "
            "`subfolder`, or take another type"
        )
    channels = int(config["latent_channels"])
    mean, std = _normalisation(config, channels, path)
    return Geometry(name, channels, 2 ** (len(config[LEVELS[name]]) - 1), mean, std)


def codec_id(config: DiffusersConfig) -> str:
    """Family and 12 hex digits over the checkpoint, wherever it stands.

    Raises:
        UserError: there is no such checkpoint.
    """
    weights = locate(config.path, config.revision, config.subfolder).identity
    return f"diffusers-{fingerprint(weights=weights, code=CODE_VERSION)[:12]}"


def _normalisation(config: Mapping[str, Any], channels: int, path: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of raw latents by channel: those of the config, or its shift and the inverse of its scale."""
    scale, shift = config.get("scaling_factor"), config.get("shift_factor") or 0.0
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if scale is None or not math.isfinite(scale) or scale <= 0:
        raise UserError(
            f"{path} has scaling_factor = {scale} in its config.json, so its latents may have any size: set it to one "
            "over their standard deviation"
        )
    if (mean is None) != (std is None):
        raise UserError(f"{path} has one of latents_mean and latents_std in its config.json: set both or none")
    if mean is None or std is None:
        return (float(shift),) * channels, (1.0 / scale,) * channels
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise UserError(f"{path} has {len(mean)} means and {len(std)} deviations, not {channels} positive ones of each")
    return tuple(mean), tuple(value / scale for value in std)


def _raw_latents(encoded: Any) -> Tensor:
    """Latents of what a class's `encode` returns."""
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mode()
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent
