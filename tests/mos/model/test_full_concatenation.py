"""The literal form of the model and the one that computes keys and values of the context alone: the same numbers."""

import pytest
import torch

from mos.model.context import Context
from mos.model.full_concatenation import full_concatenation_forward
from mos.model.fusion import (
    CrossAttentionFusion,
    DepthwiseFusion,
    HandCraftedFusion,
    LayerAttentionFusion,
    LayerwiseFusion,
    RoutedFusion,
    SelfAttentionFusion,
)
from mos.model.mos import MoS
from mos.model.routing import Exploration
from mos.states.quantise import quantise


def draw_exploration(config, context, epsilon):
    generator = torch.Generator().manual_seed(3)
    shape = (*context.layout.mask.shape, config.num_blocks)
    layers = torch.rand(*shape, config.state_layers, generator=generator).topk(config.fusion.router.top_k).indices
    return Exploration(torch.rand(shape, generator=generator) < epsilon, layers)


@pytest.mark.parametrize("with_reference", [False, True], ids=["generate", "edit"])
@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_kv_only_agrees_with_full_concatenation(tiny_config, tiny_inputs, build, with_reference, epsilon):
    latents, timestep, context = tiny_inputs
    reference = torch.randn_like(latents) if with_reference else None
    exploration = draw_exploration(tiny_config, context, epsilon)
    results = []
    for forward in (MoS.forward, full_concatenation_forward):
        model = build(tiny_config)
        out = forward(model, latents, timestep, context, reference=reference, exploration=exploration)
        out.square().mean().backward()
        results.append((out, {name: p.grad for name, p in model.named_parameters()}))
    (fast, fast_grads), (plain, plain_grads) = results
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)
    untouched = {"reference_role"} if reference is None else set()
    assert {name for name, grad in fast_grads.items() if grad is None} == untouched
    for name, grad in fast_grads.items():
        if grad is not None:
            torch.testing.assert_close(grad, plain_grads[name], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize(
    "fusion",
    [
        DepthwiseFusion(),
        LayerAttentionFusion(dim=6),
        HandCraftedFusion(),
        LayerwiseFusion(),
        SelfAttentionFusion(),
        "sample",
    ],
    ids=lambda f: getattr(f, "type", f),
)
def test_every_way_in_context_agrees(tiny_config, tiny_inputs, build, fusion, registers):
    if fusion == "sample":
        fusion = RoutedFusion(router=tiny_config.fusion.router.model_copy(update={"prediction": "sample"}))
    depth = {"num_blocks": tiny_config.state_layers} if fusion == LayerwiseFusion() else {}
    model = build(tiny_config.model_copy(update={"fusion": fusion, "num_registers": registers} | depth))
    with torch.no_grad():
        fast, plain = model(*tiny_inputs), full_concatenation_forward(model, *tiny_inputs)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)


def test_padding_takes_no_part_in_the_literal_form(tiny_config, tiny_inputs, build):
    latents, timestep, context = tiny_inputs
    model = build(tiny_config)
    with torch.no_grad():
        together = full_concatenation_forward(model, latents, timestep, context)
        alone = Context.of([context[1:2].states])
        single = full_concatenation_forward(model, latents[1:2], timestep[1:2], alone)
    torch.testing.assert_close(single, together[1:2], atol=1e-5, rtol=1e-5)


def test_there_is_no_literal_form_of_packed_states_or_cross_attention(tiny_config, tiny_inputs, build):
    latents, timestep, context = tiny_inputs
    packed = Context.of(quantise(context.states.bfloat16(), None, "bf16", context.layout.offsets))
    with pytest.raises(AssertionError, match="mixes states as a tower gives them"):
        full_concatenation_forward(build(tiny_config), latents, timestep, packed)
    crossing = build(tiny_config.model_copy(update={"fusion": CrossAttentionFusion()}))
    with pytest.raises(AssertionError, match="exists for in-context blocks"):
        full_concatenation_forward(crossing, latents, timestep, context)
