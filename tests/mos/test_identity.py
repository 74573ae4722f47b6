"""Every setting declares its kind, and settings of the kind NUMBERS alone identify work."""

from typing import Annotated, get_args

import pytest

from mos.autoencoder.config import CodecConfig
from mos.config import StrictConfig
from mos.encoders.encoding import EncodeConfig
from mos.evaluation.config import EvaluateConfig
from mos.identity import HOW, HOW_FAR, NUMBERS, Kind, kind_of, numbers_of
from mos.sampling.config import SampleConfig
from mos.training.sharding import Fsdp2Config
from mos.training.stage import StageConfig

STEPS = (StageConfig, EncodeConfig, CodecConfig, SampleConfig, EvaluateConfig)


def sections_of(annotation: object) -> list[type[StrictConfig]]:
    """Configs among the types of a setting."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, StrictConfig) else []
    return [section for part in get_args(annotation) for section in sections_of(part)]


def undeclared(config: type[StrictConfig]) -> list[str]:
    """Settings of no kind, at any depth."""
    found = []
    for name, setting in config.model_fields.items():
        if kind_of(setting) is None:
            sections = sections_of(setting.annotation)
            found += [f"{name}.{key}" for section in sections for key in undeclared(section)] if sections else [name]
    return found


@pytest.mark.parametrize("config", STEPS, ids=lambda config: config.__name__)
def test_every_setting_of_a_step_is_of_one_kind(config):
    assert undeclared(config) == []
    for setting in config.model_fields.values():
        assert sum(isinstance(item, Kind) for item in setting.metadata) <= 1


class Engine(StrictConfig):
    parts: Annotated[int, HOW] = 2
    dtype: Annotated[str, NUMBERS] = "float32"


class Work(StrictConfig):
    size: Annotated[int, NUMBERS] = 1
    steps: Annotated[int, HOW_FAR] = 10
    engine: Engine = Engine()
    whole: Annotated[Engine, NUMBERS] = Engine()


def test_numbers_are_those_settings_alone_at_any_depth():
    expected = {"size": 1, "engine": {"dtype": "float32"}, "whole": {"parts": 2, "dtype": "float32"}}
    assert numbers_of(Work()) == expected
    assert numbers_of(Work(steps=20, engine=Engine(parts=5))) == expected
    assert numbers_of(Work(size=2)) != expected


def test_a_setting_without_a_kind_is_named():
    class New(StrictConfig):
        width: int = 3

    with pytest.raises(TypeError, match=r"New.width declares no kind, of numbers, how far, how"):
        numbers_of(New())


def test_dtypes_change_the_numbers_and_sharding_does_not():
    assert numbers_of(Fsdp2Config()).keys() == {"precision"}
