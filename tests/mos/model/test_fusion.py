"""Fixed routings by hand, and configs that name one of the ways."""

import pytest
import torch
from pydantic import ValidationError

from mos.errors import UserError
from mos.model.fusion import (
    CrossAttentionFusion,
    HandCraftedFusion,
    LayerAttentionFusion,
    LayerwiseFusion,
    MixtureOfTransformersFusion,
    SelfAttentionFusion,
    fixed_layers,
)
from mos.model.mos import ModelConfig
from tests.mos.training.tiny import MODEL

FIXED = (
    HandCraftedFusion(),
    LayerwiseFusion(),
    MixtureOfTransformersFusion(num_heads=2),
    SelfAttentionFusion(),
    CrossAttentionFusion(),
)
LAYER_BY_LAYER = (LayerwiseFusion(), MixtureOfTransformersFusion(num_heads=2))


@pytest.mark.parametrize(
    ("num_layers", "num_blocks", "layers"),
    [
        (9, 5, [0, 2, 4, 6, 8]),
        (3, 6, [0, 0, 1, 1, 2, 2]),
        (6, 4, [0, 2, 3, 5]),
        (4, 4, [0, 1, 2, 3]),
        (7, 2, [0, 6]),
        (1, 3, [0, 0, 0]),
        (5, 1, [0]),
    ],
)
def test_hand_crafted_spreads_over_all_layers(num_layers, num_blocks, layers):
    assert fixed_layers(HandCraftedFusion(), num_layers, num_blocks) == layers


@pytest.mark.parametrize("fusion", [SelfAttentionFusion(), CrossAttentionFusion()])
def test_attention_baselines_read_the_last_layer_in_every_block(fusion):
    assert fixed_layers(fusion, 6, 4) == [5, 5, 5, 5]


@pytest.mark.parametrize("fusion", LAYER_BY_LAYER)
def test_layer_by_layer(fusion):
    assert fixed_layers(fusion, 4, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("fusion", LAYER_BY_LAYER)
@pytest.mark.parametrize(("num_layers", "num_blocks"), [(4, 6), (6, 4)])
def test_layer_by_layer_needs_equally_deep_towers(fusion, num_layers, num_blocks):
    message = (
        f"equally deep towers, but the understanding tower has {num_layers} layers and the generation tower "
        f"{num_blocks} blocks: set model.num_blocks = {num_layers} or use 'mos'"
    )
    with pytest.raises(UserError, match=message):
        fixed_layers(fusion, num_layers, num_blocks)


def test_layers_are_numbers_even_while_a_meta_model_is_built():
    with torch.device("meta"):
        assert fixed_layers(HandCraftedFusion(), 9, 5) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("fusion", [MODEL.fusion, LayerAttentionFusion(dim=8), *FIXED], ids=lambda fusion: fusion.type)
def test_a_fusion_is_known_by_its_name(fusion):
    config = MODEL.model_copy(update={"fusion": fusion, "state_dim": 16})
    assert ModelConfig.model_validate_json(config.model_dump_json()).fusion == fusion


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        ({"type": "moe"}, "does not match any of the expected tags: 'mos', 'depthwise', 'layer_attention'"),
        ({"type": "mos"}, "fusion.mos.router\n  Field required"),
        ({}, "Unable to extract tag using discriminator 'type'"),
        ({"type": "hand_crafted", "router": MODEL.fusion.router.model_dump()}, "Extra inputs are not permitted"),
    ],
)
def test_what_names_no_fusion_is_refused(fusion, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(MODEL.model_dump() | {"fusion": fusion})


def test_keys_and_values_fit_the_towers_heads():
    changed = MODEL.model_dump() | {"fusion": {"type": "mot", "num_heads": 2}}
    with pytest.raises(ValidationError, match=r"state_dim 12 must be a multiple of 8 \* fusion.num_heads = 16"):
        ModelConfig.model_validate(changed)
