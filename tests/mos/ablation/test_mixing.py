"""A grid of mixing ratios."""

import tomllib

import pytest
from pydantic import ValidationError

from mos.ablation.mixing import MixConfig, inline_table

GRID = {"sources": {"a": [1, 2], "b-c": [1, 2, 0.5]}}


def test_all_combinations_are_mixes_those_of_the_same_shares_once():
    mixes = MixConfig.model_validate(GRID).mixes()
    assert list(mixes) == ["a 1, b-c 1", "a 1, b-c 2", "a 1, b-c 0.5", "a 2, b-c 0.5"]
    assert mixes["a 2, b-c 0.5"] == {"a": 2, "b-c": 0.5}


def test_each_mix_is_a_variant_of_the_proxy():
    config = MixConfig.model_validate({**GRID, "stage": "edit", "proxy": ["edit.steps=3"], "seeds": [4], "jobs": 2})
    cases = config.cases()
    assert (cases.stage, cases.seeds, cases.jobs, cases.section) == ("edit", (4,), 2, "mix")
    assert cases.variants["a 1, b-c 2"] == ("edit.steps=3", 'edit.sources={ "a" = 1.0, "b-c" = 2.0 }')
    assert cases.key_of("a 1, b-c 2") == "mix.proxy, at a 1, b-c 2"


@pytest.mark.parametrize("mix", [{"a": 1, "b c": 0.25}, {"x-y": 3.5}])
def test_a_mix_is_toml(mix: dict):
    assert tomllib.loads(f"sources = {inline_table(mix)}") == {"sources": mix}


def test_what_counts_adds_up_to_one():
    assert MixConfig.model_validate(GRID).weights() == {"a": 0.5, "b-c": 0.5}
    assert MixConfig.model_validate({**GRID, "goal": {"a": 3.0}}).weights() == {"a": 1.0, "b-c": 0.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": {"a": [1]}}, "at least 2 items"),
        ({"sources": {"a": [1], "b": [1]}}, "name one mix alone"),
        ({"sources": {"a": [1, 2], "b": []}}, r"sources.b = \[\]: name positive ratios"),
        ({"sources": {"a": [1, 2], "b": [0]}}, r"sources.b = \[0.0\]: name positive ratios"),
        ({**GRID, "goal": {"c": 1.0}}, r"goal names \['c'\]"),
        ({**GRID, "goal": {"a": 0.0}}, "name weights of 0 or more, one of them positive"),
    ],
)
def test_what_is_no_search_is_refused(settings: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        MixConfig.model_validate(settings)
