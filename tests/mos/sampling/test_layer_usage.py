"""Usage adds up, and the layers it names are those that were picked."""

import pytest
import torch

from mos.model.presets import DEMO
from mos.model.routing import Routing
from mos.sampling.layer_usage import (
    covering_layers,
    every_second_layer,
    layer_usage,
    subset,
    suggested_subsets,
    usage_of_words,
)
from mos.sampling.trace import RouterRecorder, RouterTrace


def trace_of(
    picks: list[list[list[int]]],
    tokens: tuple[str, ...] = ("a", "b"),
    num_layers: int = 5,
    layers: tuple[int, ...] | None = None,
) -> RouterTrace:
    """`picks[step][token]` are the two layers (0-based) that the token sends to each of two blocks."""
    recorder = RouterRecorder(tokens, layers or tuple(range(1, num_layers + 1)))
    for number, step in enumerate(picks):
        index = torch.tensor(step)[None, :, None, :].expand(-1, -1, 2, -1)  # 1 ctx block k
        weights = torch.full((1, len(tokens), num_layers, 2), 1 / num_layers)
        recorder.add(1 - number / len(picks), Routing(weights, index, torch.full(index.shape, 1 / num_layers)))
    return recorder.finish()


def test_usage_by_step_token_and_in_all():
    usage = layer_usage([trace_of([[[0, 1], [0, 1]], [[0, 4], [3, 4]]])])
    assert usage.by_step.tolist() == [[0.5, 0.5, 0, 0, 0], [0.25, 0, 0, 0.25, 0.5]]
    assert usage.by_token.tolist() == [[0.5, 0.25, 0, 0, 0.25], [0.25, 0.25, 0, 0.25, 0.25]]
    assert usage.share.tolist() == [0.375, 0.25, 0, 0.125, 0.25]
    assert usage.timesteps.tolist() == [1.0, 0.5]


def test_a_layer_that_is_never_picked_is_never_kept():
    usage = layer_usage([trace_of([[[0, 1], [0, 1]], [[0, 4], [3, 4]]])])
    assert covering_layers(usage, 1.0) == (0, 1, 2, 4, 5)
    assert subset(usage, "", (0, 1, 2, 4, 5)).missed == 0


def test_coverage_holds_at_every_step_and_not_only_on_average():
    """Layer 5 takes a ninth of all picks, but half of those of the last step."""
    usage = layer_usage([trace_of([[[0, 1], [0, 1]]] * 8 + [[[0, 4], [0, 4]]])])
    kept = covering_layers(usage, 0.9)
    assert kept == (0, 1, 2, 5)
    without = subset(usage, "", (0, 1, 2))
    assert (without.missed, without.missed_at_worst) == (pytest.approx(0.5 / 9), 0.5)


def test_several_prompts_add_up():
    one, two = trace_of([[[0, 1], [0, 1]]]), trace_of([[[2, 3], [2, 3], [2, 3]]], ("b", "c", "b"))
    usage = layer_usage([one, two])
    assert usage.tokens == ("a", "b", "b", "c", "b")
    assert usage.share.tolist() == pytest.approx([0.2, 0.2, 0.3, 0.3, 0])
    words = usage_of_words(usage)
    assert list(words) == ["b", "a", "c"]
    assert words["b"].tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 3, 1 / 3, 0])


def test_traces_that_do_not_belong_together_are_refused():
    one = trace_of([[[0, 1], [0, 1]]])
    with pytest.raises(ValueError, match="different samplers or models"):
        layer_usage([one, trace_of([[[0, 1], [0, 1]]] * 2)])
    with pytest.raises(ValueError, match="different samplers or models"):
        layer_usage([one, trace_of([[[0, 1], [0, 1]]], num_layers=6)])
    with pytest.raises(ValueError, match="different samplers or models"):
        layer_usage([one, trace_of([[[0, 1], [0, 1]]], layers=(2, 4, 6, 8, 10))])
    with pytest.raises(ValueError, match="at least one"):
        layer_usage([])


def test_every_second_layer_has_the_embedding_and_the_last():
    assert every_second_layer((1, 2, 3, 4, 5, 6)) == (0, 2, 4, 6)
    assert every_second_layer((1, 2, 3, 4, 5)) == (0, 1, 3, 5)
    names = [item.name for item in suggested_subsets(layer_usage([trace_of([[[0, 1], [0, 1]]])]))]
    assert names == ["all layers", "99% of the picks", "95% of the picks", "90% of the picks", "every second layer"]


def test_a_model_of_some_layers_is_told_their_places_in_the_tower():
    usage = layer_usage([trace_of([[[0, 2], [0, 2]]], num_layers=3, layers=(2, 4, 6))])
    assert covering_layers(usage, 1.0) == (0, 2, 6)
    whole, kept, *_, second = suggested_subsets(usage)
    assert (whole.states, second.states) == ((0, 2, 4, 6), (0, 2, 6))
    assert (kept.missed, kept.size) == (0, 3 / 4)
    assert subset(usage, "", (0, 4, 6)).missed == 0.5
    assert kept.settings == {"encode.layers": [0, 2, 6], "model.routed_layers": [2, 6], "model.state_layers": 2}


def test_suggested_settings_are_a_model_that_the_table_serves():
    usage = layer_usage([trace_of([[[0, 2], [0, 2]]], num_layers=3, layers=(2, 4, 6))])
    settings = suggested_subsets(usage)[1].settings
    model = {key.removeprefix("model."): value for key, value in settings.items() if key.startswith("model.")}
    config = type(DEMO).model_validate(DEMO.model_dump() | model)
    assert config.hidden_states == tuple(settings["encode.layers"])
