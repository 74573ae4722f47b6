"""The formulas against what torch counts while it runs."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mos.encoders.load import load_tower
from mos.encoders.understanding import MiniLMConfig
from mos.model.context import Context
from mos.model.fusion import (
    CrossAttentionFusion,
    DepthwiseFusion,
    LayerAttentionFusion,
    MixtureOfTransformersFusion,
    RoutedFusion,
    SelfAttentionFusion,
)
from mos.model.mos import ModelConfig, MoS
from mos.model.presets import MOS_L, MOS_S
from mos.model.router import RouterConfig
from mos.planning.flops import generation_flops, tower_flops, tower_parameters, training_flops

ROUTED = RoutedFusion(router=RouterConfig(dim=16, num_heads=2, ffn_dim=24))
SAMPLED = RoutedFusion(router=RouterConfig(dim=16, num_heads=2, ffn_dim=24, prediction="sample"))
BLIND = RoutedFusion(router=RouterConfig(dim=16, num_heads=2, ffn_dim=24, inputs=("context",), norms="shared"))


def tiny(fusion) -> ModelConfig:
    return ModelConfig(
        latent_channels=4, patch=2, state_dim=16, state_layers=3, dim=16, num_blocks=3, num_heads=2, ffn_dim=24,
        fusion=fusion,
    )  # fmt: skip


def counted(config: ModelConfig, context: int, reference: bool) -> int:
    """FLOPs of one sample of 6 x 8 latent tokens."""
    model = MoS(config)
    model.init_weights()
    latents = torch.randn(1, 4, 12, 16)
    states = Context.of([torch.randn(context, 4, config.state_dim)])
    # torch counts attention only where it is made of matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(latents, torch.tensor([0.5]), states, reference=latents if reference else None)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "fusion",
    [
        ROUTED,
        SAMPLED,
        BLIND,
        DepthwiseFusion(),
        LayerAttentionFusion(dim=6),
        MixtureOfTransformersFusion(num_heads=2),
        SelfAttentionFusion(),
        CrossAttentionFusion(),
    ],
    ids=lambda fusion: fusion.type,
)
@pytest.mark.parametrize("reference", [False, True])
def test_generation_flops_are_those_of_the_model(fusion, reference):
    config = tiny(fusion)
    expected = generation_flops(config, image=48, context=10, reference=48 if reference else 0)
    assert expected == pytest.approx(counted(config, 10, reference), rel=1e-6)


def test_tower_flops_are_those_of_minilm_but_for_its_scores():
    tower = load_tower(MiniLMConfig())
    config = MiniLMConfig()
    with FlopCounterMode(display=False) as counter:
        contexts = tower.encode(["a red circle left of a blue star"] * config.pass_rows)
    padded = sum(len(context.tokens) + -len(context.tokens) % config.pass_step for context in contexts)
    expected = tower_flops(tower_parameters(6, 384), padded)
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_full_sizes_train_at_the_flops_of_their_published_parameters():
    """Six FLOPs a parameter and token, give or take context tokens (keys and values alone) and attention."""
    for model, parameters in ((MOS_S, 3e9), (MOS_L, 5e9)):
        step = training_flops(generation_flops(model, image=1024, context=0), recompute=False)
        assert step / (6 * parameters * 1024) == pytest.approx(1, abs=0.15)
    assert training_flops(2.0, recompute=True) == 8.0
