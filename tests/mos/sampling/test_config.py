import pytest
from pydantic import ValidationError

from mos.sampling.config import SampleConfig, SamplerConfig


@pytest.mark.parametrize("guidance", [0.0, 1.0, 7.5])
def test_guidance_is_off_or_strengthens(guidance: float) -> None:
    assert SamplerConfig(guidance=guidance).guidance == guidance


@pytest.mark.parametrize("settings", [{"guidance": 0.5}, {"guidance": float("inf")}, {"steps": 0}, {"schedule": "x"}])
def test_what_draws_nothing_is_refused(settings: dict) -> None:
    with pytest.raises(ValidationError):
        SamplerConfig(**settings)


def test_what_is_left_out_is_one_picture_of_each_prompt() -> None:
    sample = SampleConfig()
    assert (sample.images_per_prompt, sample.height, sample.sampler) == (1, None, SamplerConfig())
