import pytest

from mos.encoders.load import load_tower
from mos.encoders.pixel_codec import PixelCodec
from mos.encoders.understanding import MiniLMConfig, Tower
from mos.encoders.vae import PixelConfig
from mos.sampling import MosPipeline
from tests.mos.sampling.tiny_export import random_model


@pytest.fixture(scope="session")
def tower() -> Tower:
    return load_tower(MiniLMConfig())


@pytest.fixture(scope="session")
def pipe(tower: Tower) -> MosPipeline:
    return MosPipeline(random_model(), tower, PixelCodec(PixelConfig()), resolution=16)
