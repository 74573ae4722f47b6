"""Shapes that an autoencoder can and cannot have."""

import pytest
from pydantic import ValidationError

from mos.autoencoder.config import CodecConfig


@pytest.mark.parametrize(("stride", "channels"), [(2, (6,)), (4, (6, 12)), (8, (6, 12, 12)), (16, (6, 12, 12, 12))])
def test_channels_double_below_half_the_pictures_size(stride: int, channels: tuple[int, ...]):
    assert CodecConfig(resolution=32, stride=stride, latent_channels=3, width=6, steps=1).channels == channels


def test_latent_channels_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValidationError, match="latent_channels = 5 must divide the 12 channels behind them"):
        CodecConfig(resolution=32, stride=4, latent_channels=5, width=6, steps=1)


def test_steps_are_those_of_both_parts():
    assert CodecConfig(resolution=32, steps=7, decoder_steps=5).total_steps == 12
