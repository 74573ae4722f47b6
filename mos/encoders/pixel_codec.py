"""The weight-free codec of the demo: each stride x stride patch of pixels becomes one latent cell.

Dimension key
    batch           images of one bucket
    height, width   px
    channels, h, w  3 * stride² and the latent grid
"""

from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mos.encoders.frozen_autoencoder import to_bytes
from mos.encoders.vae import PixelConfig, require_multiple
from mos.fingerprint import fingerprint

CODE_VERSION = 1
"""Raise it when a latent changes: every table of older latents is then left aside."""


class PixelCodec:
    """Space to depth. Invertible: decoding an encoded 8-bit image gives it back exactly, also through float16."""

    def __init__(self, config: PixelConfig) -> None:
        self.stride = config.stride
        self.channels = 3 * config.stride**2
        self.codec_id = codec_id(config)
        self._scale = config.scale

    def encode(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels h w"]:
        """Pixel values as latents in [-scale, scale], float32."""
        require_multiple(images, self.stride)
        return pixel_unshuffle(images.float() / 127.5 - 1, self.stride) * self._scale

    def decode(self, latents: Float[Tensor, "batch channels h w"]) -> UInt8[Tensor, "batch 3 height width"]:
        """The pixels again; values outside [-scale, scale] are clipped."""
        return to_bytes(self.decode_frames(latents))

    def decode_frames(self, latents: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch 3 height width"]:
        """Pixel values around [-1, 1]."""
        return pixel_shuffle(latents.float() / self._scale, self.stride)


def codec_id(config: PixelConfig) -> str:
    """Family and 12 hex digits over everything that decides a latent."""
    return f"pixel-{fingerprint(config=config, code=CODE_VERSION)[:12]}"
