"""Figures of mixes, in order."""

import tomllib

import pytest

from mos.ablation.mixes import cells, chosen_toml, columns, markdown, mixes_figure, rank
from mos.ablation.mixing import MixConfig
from mos.ablation.results import CaseFigures
from mos.evaluation.theme import LIGHT, figure_png

LOSSES = {"a 1, b 1": (1.1, 2.0), "a 1, b 3": (1.2, 2.1), "a 3, b 1": (1.0, 2.6)}
"""Of `a` and `b`."""


def search(**settings: object) -> MixConfig:
    return MixConfig.model_validate({"sources": {"a": [1, 3], "b": [1, 3]}, "seeds": [0, 1, 2], **settings})


def figures(config: MixConfig, scores: bool = False) -> list[CaseFigures]:
    found = []
    for number, name in enumerate(config.mixes()):
        for seed in config.seeds:
            losses = {"a": LOSSES[name][0] + 0.01 * seed + 0.001 * number * seed, "b": LOSSES[name][1] - 0.01 * seed}
            right = {"drawn": 0.5 + 0.1 * seed} if scores else {}
            found.append(CaseFigures(name, seed, 0.0, right, {}, 1, 1.0, losses))
    return found


@pytest.mark.parametrize(
    ("goal", "order"),
    [
        ({}, ["a 1, b 1", "a 1, b 3", "a 3, b 1"]),  # 1.05, 1.125, 1.15
        ({"a": 1}, ["a 3, b 1", "a 1, b 1", "a 1, b 3"]),
        ({"b": 2}, ["a 1, b 1", "a 1, b 3", "a 3, b 1"]),
        ({"a": 9, "b": 1}, ["a 3, b 1", "a 1, b 1", "a 1, b 3"]),
    ],
)
def test_the_lowest_score_by_the_goal_is_first(goal: dict, order: list[str]):
    config = search(goal=goal)
    results = rank(config, figures(config))
    assert [result.name for result in results] == order
    assert results[0].behind is None


def test_a_score_is_the_mean_of_the_losses_over_the_lowest_ones():
    config = search()
    first, second, third = rank(config, figures(config))
    assert first.losses == pytest.approx({"a": 1.11, "b": 1.99})
    assert first.score == pytest.approx((1.11 / 1.012 + 1.0) / 2)
    assert first.shares == {"a": 0.5, "b": 0.5}
    assert second.behind is not None
    assert second.behind.mean == pytest.approx(second.score - first.score)
    assert second.is_surely_behind  # by nearly as much for every seed
    assert third.is_surely_behind
    assert not first.is_surely_behind


def test_one_seed_tells_no_difference():
    config = search(seeds=[0])
    results = rank(config, figures(config))
    assert [result.behind for result in results] == [None] * 3
    assert not any(result.is_surely_behind for result in results)


def test_table_ratios_and_picture():
    config = search(stage="stage2")
    results = rank(config, figures(config, scores=True))
    assert columns(results) == ["a", "b", "loss a", "loss b", "score", "behind", "right"]
    assert cells(results[0])[:2] == ["50%", "50%"]
    assert cells(results[0])[-2:] == ["", "0.60"]
    lines = markdown(config, results).splitlines()
    assert len(lines) == 2 + 2 + 3
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert tomllib.loads(chosen_toml(config, results)) == {"stage2": {"sources": {"a": 1.0, "b": 1.0}}}
    figure = mixes_figure(results, LIGHT)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [result.name for result in results]
    assert figure_png(lambda theme: mixes_figure(results, theme), LIGHT).startswith(b"\x89PNG")
