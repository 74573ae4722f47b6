"""Latent codecs: uint8 images of one bucket in, normalised latents out, and back.

Dimension key
    batch           images of one bucket
    height, width   px
    channels, h, w  latent channels and grid: h = height / stride
"""

from typing import Annotated, Literal, Protocol

from jaxtyping import Float, UInt8
from pydantic import Field, model_validator
from torch import Tensor

from mos.checkpoints import CODEC
from mos.config import StrictConfig
from mos.errors import UserError

PASS_MB = 4096
"""MiB that a pass of a codec may take beside its weights, where nobody says otherwise."""


class Codec(Protocol):
    """A frozen image autoencoder."""

    codec_id: str
    """Names its latents table: family and 12 hex digits over everything that decides a latent, weights included."""
    channels: int
    """Latent channels."""
    stride: int
    """Image pixels per latent cell, along each side."""

    def encode(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels h w"]:
        """Latents of about zero mean and unit variance per channel, float32.

        Raises:
            UserError: a side is no multiple of the stride.
        """
        ...

    def decode(self, latents: Float[Tensor, "batch channels h w"]) -> UInt8[Tensor, "batch 3 height width"]:
        """Images of latents; values outside the valid range are clipped."""
        ...

    def decode_frames(self, latents: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch 3 height width"]:
        """The same before it is rounded to 8 bits and clipped: values around [-1, 1], float32."""
        ...


class PixelConfig(StrictConfig):
    """A weight-free invertible codec: space to depth, scaled. Exact for every 8-bit image."""

    type: Literal["pixel"] = "pixel"
    stride: int = Field(default=2, ge=1)
    """Pixels per latent cell; channels are 3 * stride²."""
    scale: float = Field(default=1.0, gt=0)
    """Pixel values [0, 255] become [-scale, scale]."""


class RandomWan(StrictConfig):
    """A tiny AutoencoderKLWan with seeded random weights: the real class and geometry (16x, 48 channels)."""

    seed: int = 0
    """Seed of the weights."""
    base_dim: int = Field(default=8, ge=4)
    """Width of encoder and decoder; Wan 2.2 has 160 and 256."""
    num_res_blocks: int = Field(default=1, ge=1)
    """Residual blocks per level; Wan 2.2 has 2."""


class WanConfig(StrictConfig):
    """The Wan 2.2 VAE (16x, 48 channels) as diffusers' AutoencoderKLWan, in float32 (paper, Appendix A)."""

    type: Literal["wan"] = "wan"
    path: str | None = None
    """Folder of a diffusers checkpoint, or a hub id such as `Wan-AI/Wan2.2-TI2V-5B-Diffusers`."""
    subfolder: str | None = None
    """Folder inside `path` that holds the VAE, for a whole-pipeline checkpoint: `vae`."""
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """Commit of the hub repository, 40 hex digits; required for a hub id, refused for a folder."""
    random: RandomWan | None = None
    """Random weights instead of a checkpoint."""

    @model_validator(mode="after")
    def _one_source(self) -> "WanConfig":
        if (self.path is None) == (self.random is None):
            raise ValueError("a wan codec takes exactly one of `path` and `random`")
        return self


class DiffusersConfig(StrictConfig):
    """An image autoencoder of diffusers (AutoencoderKL, AutoencoderTiny, AutoencoderDC), in float32."""

    type: Literal["diffusers"] = "diffusers"
    path: str
    """Folder of a diffusers checkpoint, or a hub id such as `madebyollin/taesd`."""
    subfolder: str | None = None
    """Folder inside `path` that holds the autoencoder, for a whole-pipeline checkpoint: `vae`."""
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """Commit of the hub repository, 40 hex digits; required for a hub id, refused for a folder."""


class ShapesVaeConfig(StrictConfig):
    """The autoencoder of drawn scenes that ships with this package (mos/checkpoints/codec): 8 px, 8 channels."""

    type: Literal["shapes"] = "shapes"

    @property
    def shipped(self) -> DiffusersConfig:
        """Where it stands on this machine; configs and exports that leave the machine do not say."""
        return DiffusersConfig(path=str(CODEC))


VaeConfig = Annotated[PixelConfig | WanConfig | DiffusersConfig | ShapesVaeConfig, Field(discriminator="type")]


def require_multiple(images: UInt8[Tensor, "batch 3 height width"], stride: int) -> None:
    """Raise `UserError` unless both sides are multiples of the codec's stride."""
    height, width = images.shape[-2:]
    if height % stride or width % stride:
        raise UserError(
            f"an image of {height}x{width} px does not divide into latent cells of {stride} px: choose buckets whose "
            f"sides are multiples of {stride}"
        )
