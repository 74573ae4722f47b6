"""Mistakes in an ablation's section end in a sentence before anything is trained."""

import pytest
from pydantic import ValidationError

from mos.ablation.config import AblateConfig, Comparison


def comparison(better: str, worse: str) -> dict[str, str]:
    return {"claim": "a is better", "source": "table 1", "better": better, "worse": worse}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"comparisons": [comparison("a", "c")]}, "names the variant 'c'"),
        ({"comparisons": [comparison("a:slow", "b")]}, "names the sampler 'slow'"),
        ({"comparisons": [comparison("a", "a")]}, "compares 'a' with itself"),
        ({"further_samplers": {"guided": {}}}, r"both name \['guided'\]"),
        ({"further_samplers": {"slow": {}}}, r"no comparison names the further samplers \['slow'\]"),
        ({"seeds": [1, 1]}, "name one twice"),
        ({"seeds": [1]}, "at least 2 items"),
        ({"variants": {"a": []}}, "at least 2 items"),
        ({"held_out": 0.0}, "greater than 0"),
    ],
)
def test_what_cannot_be_compared_is_named(settings: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        AblateConfig.model_validate({"variants": {"a": [], "b": ["seed=2"]}, "samplers": {"guided": {}}, **settings})


def test_a_side_without_a_sampler_is_drawn_by_the_first():
    samplers = {"slow": {"steps": 30}, "fast": {"steps": 2}}
    config = AblateConfig.model_validate(
        {"variants": {"a": [], "b": []}, "samplers": samplers, "comparisons": [comparison("a:fast", "a")]}
    )
    only = config.comparisons[0]
    assert isinstance(only, Comparison)
    assert config.parts(only.better) == ("a", "fast")
    assert config.parts(only.worse) == ("a", "slow")


def test_further_samplers_draw_from_the_variants_that_are_compared_with_them():
    config = AblateConfig.model_validate(
        {
            "variants": {"a": [], "b": []},
            "samplers": {"slow": {"steps": 30}},
            "further_samplers": {"fast": {"steps": 2}},
            "comparisons": [comparison("a:fast", "a")],
        }
    )
    assert list(config.samplers_of("a")) == ["slow", "fast"]
    assert list(config.samplers_of("b")) == ["slow"]
