"""Pixels become normalised latents and pixels again, whatever an autoencoder makes of them in between."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mos.encoders.frozen_autoencoder import FrozenAutoencoder
from mos.errors import UserError
from tests.mos.encoders.pictures import pictures

MEAN, STD = [float(channel) for channel in range(12)], [1.0 + channel for channel in range(12)]


class Shuffle(FrozenAutoencoder):
    """Exact: raw latents are the pixels of a cell, and a frame of them may leave the range."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__("shuffle", 2, (MEAN, STD), torch.device("cpu"), pass_mb=64)
        self.gain = gain

    def raw_latents(self, frames: Tensor, rows: int | None) -> Tensor:
        assert rows is None
        assert frames.dtype == torch.float32
        return pixel_unshuffle(frames, 2)

    def frames(self, raw: Tensor, rows: int | None) -> Tensor:
        assert rows is None
        return self.gain * pixel_shuffle(raw, 2)


def test_latents_are_normalised_by_channel_and_undone() -> None:
    codec, images = Shuffle(), pictures(3, 3, 6, 8)
    latents = codec.encode(images)
    assert (codec.channels, codec.stride, codec.codec_id) == (12, 2, "shuffle")
    mean, std = (torch.tensor(values).view(1, 12, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(latents, (pixel_unshuffle(images / 127.5 - 1, 2) - mean) / std)
    assert torch.equal(codec.decode(latents), images)


def test_values_outside_the_range_are_clipped() -> None:
    images = pictures(1, 3, 4, 4)
    decoded = Shuffle(gain=10.0).decode(Shuffle().encode(images))
    expected = ((images / 127.5 - 1) * 10).clamp(-1, 1)
    assert (decoded - (expected + 1) * 127.5).abs().max() <= 0.51


def test_sides_must_divide_into_cells() -> None:
    with pytest.raises(UserError, match="does not divide into latent cells of 2 px"):
        Shuffle().encode(pictures(1, 3, 5, 4))
