import pytest

from mos.encoders.understanding import Tower
from mos.sampling.pipeline import MoSPipeline
from tests.mos.sampling.tiny_pipeline import tiny_pipeline


@pytest.fixture(scope="session")
def pipe() -> MoSPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="session")
def tower(pipe: MoSPipeline) -> Tower:
    return pipe.tower
