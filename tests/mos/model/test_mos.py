import pytest
import torch
from pydantic import ValidationError

from mos.model.context import Context
from mos.model.fusion import (
    CrossAttentionFusion,
    DepthwiseFusion,
    HandCraftedFusion,
    LayerAttentionFusion,
    MixtureOfTransformersFusion,
    RoutedFusion,
    SelfAttentionFusion,
)
from mos.model.mos import MoS
from mos.model.router import RouterConfig
from mos.states.calibration import Calibration
from mos.states.quantise import dequantise, quantise
from tests.mos.model.weight_size import change_by_halving, fresh, gradient_shares


@pytest.mark.parametrize("scale", [1.0, 1e3], ids=["small states", "states as large as a deep language model's"])
@pytest.mark.parametrize("top_k", [1, 2])
def test_the_size_of_the_weights_reaches_the_output(tiny_config, tiny_inputs, top_k, scale):
    latents, timestep, context = tiny_inputs
    context = Context(context.states * scale, context.layout)
    assert change_by_halving(fresh(tiny_config, top_k), (latents, timestep, context)) > 1e-3


@pytest.mark.parametrize("top_k", [1, 2])
def test_the_router_learns_from_every_logit_at_any_number_of_picks(tiny_config, tiny_inputs, top_k):
    unpicked, router = gradient_shares(fresh(tiny_config, top_k), tiny_inputs, torch.ones(()))
    assert unpicked > 0.01
    assert router > 1e-3


@pytest.mark.parametrize(
    "fusion",
    [
        DepthwiseFusion(),
        LayerAttentionFusion(dim=6),
        HandCraftedFusion(),
        SelfAttentionFusion(),
        CrossAttentionFusion(),
        "sample",
    ],
    ids=lambda f: f if isinstance(f, str) else f.type,
)
def test_baselines_run_and_train(tiny_config, tiny_inputs, build, fusion):
    if fusion == "sample":
        router = tiny_config.fusion.router.model_copy(update={"prediction": "sample"})
        fusion = RoutedFusion(router=router)
    model = build(tiny_config.model_copy(update={"fusion": fusion}))
    latents, timestep, context = tiny_inputs
    out = model(latents, timestep, context)
    assert out.shape == latents.shape
    out.square().mean().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if name != "reference_role")


def test_mixture_of_transformers_attends_in_the_towers_width(tiny_config, build):
    fusion = MixtureOfTransformersFusion(num_heads=2)
    model = build(tiny_config.model_copy(update={"fusion": fusion, "state_dim": 32, "num_blocks": 5}))
    states = [torch.randn(n, 6, 32, generator=torch.Generator().manual_seed(n)) for n in (5, 2)]
    out = model(torch.randn(2, 3, 6, 10), torch.rand(2), Context.of(states))
    out.square().mean().backward()
    assert all(p.grad.abs().max() > 0 for name, p in model.named_parameters() if name != "reference_role")
    assert model.blocks[0].q.weight.shape == (16, 48)
    larger = [3 * state for state in states]
    seen = {}
    model.blocks[1].register_forward_pre_hook(lambda block, inputs: seen.update(mixed=inputs[1]))
    model(torch.randn(2, 3, 6, 10), torch.rand(2), Context.of(larger))
    torch.testing.assert_close(seen["mixed"], torch.cat(larger)[:, 2])  # layer 2 as the tower gives it


def test_samples_do_not_see_each_other(tiny_config, tiny_inputs, build):
    latents, timestep, context = tiny_inputs
    model = build(tiny_config)
    together = model(latents, timestep, context)
    for i, length in enumerate((7, 1, 4)):
        alone = context[i : i + 1]
        assert len(alone.states) == length
        single = model(latents[i : i + 1], timestep[i : i + 1], alone)  # padded as the batch was
        torch.testing.assert_close(single[0], together[i], atol=1e-5, rtol=1e-5)
        single = model(latents[i : i + 1], timestep[i : i + 1], Context.of([alone.states]))
        torch.testing.assert_close(single[0], together[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("format", ["bf16", "int8", "int4"])
def test_packed_states_count_as_what_they_stand_for(tiny_config, tiny_inputs, build, format):
    latents, timestep, context = tiny_inputs
    states = context.states.bfloat16()
    calibration = Calibration(states.mean(0), states.std(0), torch.zeros(len(states[0]), 1, dtype=torch.int32))
    packed = quantise(states, calibration, format, context.layout.offsets)
    results = []
    for given in (Context(dequantise(packed), context.layout), Context.of(packed)):
        model = build(tiny_config)
        model(latents, timestep, given).square().mean().backward()
        results.append([p.grad for p in model.parameters() if p.grad is not None])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=2e-2)  # mixed in bf16, as the states are


def test_only_the_router_sees_the_timestep(tiny_config, tiny_inputs, build):
    latents, timestep, context = tiny_inputs
    routed = build(tiny_config)
    assert not torch.equal(routed(latents, timestep, context), routed(latents, 1 - timestep, context))
    fixed = build(tiny_config.model_copy(update={"fusion": HandCraftedFusion()}))
    torch.testing.assert_close(fixed(latents, timestep, context), fixed(latents, 1 - timestep, context))


def test_fresh_model_predicts_zero_velocity(tiny_config, tiny_inputs):
    model = MoS(tiny_config)
    model.init_weights(torch.Generator().manual_seed(0))
    assert model(*tiny_inputs).abs().max() == 0


def test_init_fills_a_meta_model_completely(tiny_config):
    with torch.device("meta"):
        model = MoS(tiny_config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    model.init_weights(torch.Generator().manual_seed(0))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    "fusion",
    [
        None,
        DepthwiseFusion(),
        HandCraftedFusion(),
        LayerAttentionFusion(dim=8),
        RoutedFusion(router=RouterConfig(dim=16, num_heads=2, ffn_dim=24, prediction="sample")),
    ],
)
def test_first_values_come_for_every_weight_whole_and_wherever_the_model_is(tiny_config, fusion):
    config = tiny_config if fusion is None else tiny_config.model_copy(update={"fusion": fusion})
    model = MoS(config)
    model.init_weights(torch.Generator().manual_seed(5))
    with torch.device("meta"):
        elsewhere = MoS(config)
    values = dict(elsewhere.initial_weights(torch.Generator().manual_seed(5)))
    assert values.keys() == dict(model.named_parameters()).keys()
    for name, weight in model.named_parameters():
        assert torch.equal(values[name], weight)


def test_depthwise_weights_are_a_mean_of_all_layers_the_same_for_every_token(tiny_config, tiny_inputs, build):
    model = MoS(tiny_config.model_copy(update={"fusion": DepthwiseFusion()}))
    model.init_weights(torch.Generator().manual_seed(0))
    layers = tiny_config.state_layers
    torch.testing.assert_close(model.route(*tiny_inputs).picked, torch.full((3, 7, 3, layers), 1 / layers))
    model = build(model.shape)
    routing = model.route(*tiny_inputs)
    expected = torch.softmax(model.depth_logits, 0).T
    found = torch.zeros_like(routing.picked).scatter(-1, routing.index, routing.picked)
    torch.testing.assert_close(found, expected.expand_as(found))


def test_fixed_layers_survive_a_meta_model(tiny_config, tiny_inputs):
    config = tiny_config.model_copy(update={"fusion": HandCraftedFusion()})
    with torch.device("meta"):
        filled, loaded = MoS(config), MoS(config)
    filled.to_empty(device="cpu")
    filled.block_layers.fill_(-1)
    filled.init_weights(torch.Generator().manual_seed(0))
    loaded.load_state_dict(filled.state_dict(), strict=True, assign=True)
    assert "block_layers" not in filled.state_dict()
    for model in (filled, loaded.float()):
        assert model.route(*tiny_inputs).index[0, 0, :, 0].tolist() == [0, 2, 4]


def test_impossible_shapes_are_refused(tiny_config):
    with pytest.raises(ValidationError, match="multiple of 4"):
        tiny_config.model_validate(tiny_config.model_dump() | {"num_heads": 5})
    router = tiny_config.fusion.router.model_dump() | {"top_k": 6}
    with pytest.raises(ValidationError, match="exceeds the tower's 5 layers"):
        tiny_config.model_validate(tiny_config.model_dump() | {"fusion": {"type": "mos", "router": router}})


def test_the_layers_a_model_routes_are_named_once_and_in_order(tiny_config):
    assert tiny_config.hidden_states == (0, 1, 2, 3, 4, 5)
    tree = tiny_config.model_dump()
    assert type(tiny_config).model_validate(tree | {"routed_layers": (1, 2, 5, 8, 9)}).hidden_states == (
        0,
        1,
        2,
        5,
        8,
        9,
    )
    for wrong in ((1, 2, 3), (0, 1, 2, 3, 4), (5, 4, 3, 2, 1), (1, 1, 2, 3, 4)):
        with pytest.raises(ValidationError, match="ascending from 1"):
            type(tiny_config).model_validate(tree | {"routed_layers": wrong})
