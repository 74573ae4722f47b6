"""The weight-free codec as a module of diffusers, so that a pipeline holds and saves it as it does any other.

Dimension key
    batch           images of one bucket
    height, width   px
    channels, h, w  3 * stride² and the latent grid
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class PixelAutoencoder(ModelMixin, ConfigMixin):
    """Space to depth of values in [-1, 1]; a pipeline draws with `mos.encoders.pixel_codec` of the same stride."""

    @register_to_config
    def __init__(self, stride: int = 2, scale: float = 1.0) -> None:
        """Keep the config.

        Args:
            stride: pixels of a latent cell; channels are 3 * stride².
            scale: pixel values in [-1, 1] become [-scale, scale].
        """
        super().__init__()
        self.register_buffer("placed", torch.zeros(()))  # a device and a dtype, which every module is asked for

    def encode(self, frames: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels h w"]:
        """Latents of frames in [-1, 1]."""
        return pixel_unshuffle(frames, self.config.stride) * self.config.scale

    def decode(self, latents: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch 3 height width"]:
        """The frames again."""
        return pixel_shuffle(latents / self.config.scale, self.config.stride)
