"""What codecs with weights share: pixels to normalised latents and back, in passes within a byte budget.

Dimension key
    batch           images of one bucket
    height, width   px
    channels, h, w  latent channels and grid: h = height / stride
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mos.encoders.pass_budget import PassBudget
from mos.encoders.vae import require_multiple


class FrozenAutoencoder(ABC):
    """A codec by its frames in [-1, 1] and its raw latents, which subclasses make of each other."""

    def __init__(
        self,
        codec_id: str,
        stride: int,
        statistics: tuple[Sequence[float], Sequence[float]],
        device: torch.device,
        pass_mb: int,
    ) -> None:
        """Keep what is alike.

        Args:
            codec_id: names its latents.
            stride: image pixels of a latent cell, along each side.
            statistics: mean and deviation of the raw latents, by channel.
            device: of the weights.
            pass_mb: MiB that a pass may take beside the weights.
        """
        self.codec_id = codec_id
        self.stride = stride
        self.channels = len(statistics[0])
        self._device = device
        self._budget = PassBudget(pass_mb * 2**20, device)
        self._mean, self._std = torch.tensor(statistics, device=device).view(2, 1, self.channels, 1, 1)

    @torch.inference_mode()
    def encode(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels h w"]:
        """Normalised latents, float32 on the CPU."""
        require_multiple(images, self.stride)
        height, width = images.shape[-2:]
        return self._budget.run(self._encode, images, height * width, self.strips(height))

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "batch channels h w"]) -> UInt8[Tensor, "batch 3 height width"]:
        """Images; values outside the valid range are clipped."""
        height, width = (self.stride * side for side in latents.shape[-2:])
        return self._budget.run(self._decode, latents, height * width, self.strips(height))

    @torch.inference_mode()
    def decode_frames(self, latents: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch 3 height width"]:
        """Images before they are rounded and clipped, float32 on the CPU."""
        height, width = (self.stride * side for side in latents.shape[-2:])
        return self._budget.run(self._decode_frames, latents, height * width, self.strips(height))

    def strips(self, height: int) -> Sequence[int | None]:
        """Heights that a picture may be cut into, the largest first; None is the whole picture."""
        return (None,)

    @abstractmethod
    def raw_latents(self, frames: Tensor, rows: int | None) -> Tensor:
        """Of frames [batch 3 height width], seen `rows` pixels of height at a time or at once."""

    @abstractmethod
    def frames(self, raw: Tensor, rows: int | None) -> Tensor:
        """Of raw latents [batch channels h w], the same way."""

    def _encode(self, images: Tensor, rows: int | None) -> Tensor:
        raw = self.raw_latents(images.to(self._device).float() / 127.5 - 1, rows).float()
        return (raw - self._mean) / self._std

    def _decode_frames(self, latents: Tensor, rows: int | None) -> Tensor:
        return self.frames(latents.to(self._device).float() * self._std + self._mean, rows).float()

    def _decode(self, latents: Tensor, rows: int | None) -> Tensor:
        return to_bytes(self._decode_frames(latents, rows))


def to_bytes(frames: Float[Tensor, "batch 3 height width"]) -> UInt8[Tensor, "batch 3 height width"]:
    """Pictures of values in [-1, 1], clipped to it."""
    return ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
