"""How states reach the generation tower: the method's router, and the fixed rules it is compared with (section 4.1).

Dimension key
    batch  samples            ctx    context tokens      layer  m understanding layers
    block  n generation blocks                           k      picks of one token for one block
"""

from typing import Annotated, Literal, assert_never

import torch
from pydantic import Field

from mos.config import StrictConfig
from mos.errors import UserError
from mos.model.router import RouterConfig


class RoutedFusion(StrictConfig):
    """Mixture of States: a learned router picks layers by token, timestep and latent."""

    type: Literal["mos"] = "mos"
    router: RouterConfig
    """The router."""


class DepthwiseFusion(StrictConfig):
    """Every block reads a learned mean of all layers, the same for all tokens, latents and timesteps: a rival of the
    router that ELMo's weighted layers and later work on semantic routing propose.
    """

    type: Literal["depthwise"] = "depthwise"


class HandCraftedFusion(StrictConfig):
    """Fixed routing: generation blocks read evenly spaced understanding layers (paper table 3)."""

    type: Literal["hand_crafted"] = "hand_crafted"


class LayerAttentionFusion(StrictConfig):
    """Every block has a query, every hidden state of a token a key: each token attends over all its layers, as in
    Krea 2. Its weights depend on the token, and on nothing that changes while a picture is drawn.
    """

    type: Literal["layer_attention"] = "layer_attention"
    dim: int = Field(gt=0)
    """Width of queries and keys."""


class LayerwiseFusion(StrictConfig):
    """Block j reads the hidden states of layer j, through a projection of its own; both towers must be equally deep."""

    type: Literal["layerwise"] = "layerwise"


class MixtureOfTransformersFusion(StrictConfig):
    """Mixture of Transformers: image tokens attend to the keys and values of the understanding tower's own layer j, in
    its heads; both towers must be equally deep (paper figure 6). The tower is read at keys and values
    (`minilm_keys_values`), so a state of width `state_dim` holds both.
    """

    type: Literal["mot"] = "mot"
    num_heads: int = Field(gt=0)
    """Attention heads of the understanding tower."""


class SelfAttentionFusion(StrictConfig):
    """The last layer, in context with the image tokens of every block (paper figure 2b)."""

    type: Literal["self_attention"] = "self_attention"


class CrossAttentionFusion(StrictConfig):
    """The last layer, through a cross-attention of its own in every block (paper figure 2a, table 4)."""

    type: Literal["cross_attention"] = "cross_attention"


FusionConfig = Annotated[
    RoutedFusion
    | DepthwiseFusion
    | LayerAttentionFusion
    | HandCraftedFusion
    | LayerwiseFusion
    | MixtureOfTransformersFusion
    | SelfAttentionFusion
    | CrossAttentionFusion,
    Field(discriminator="type"),
]


def fixed_layers(
    fusion: HandCraftedFusion
    | LayerwiseFusion
    | MixtureOfTransformersFusion
    | SelfAttentionFusion
    | CrossAttentionFusion,
    num_layers: int,
    num_blocks: int,
) -> list[int]:
    """The layer (0..m-1) that each generation block reads when nothing is learned about it.

    Raises:
        UserError: `layerwise` or `mot` with towers of different depth.
    """
    match fusion:
        case HandCraftedFusion():
            return torch.linspace(0, num_layers - 1, num_blocks, device="cpu").round().int().tolist()
        case LayerwiseFusion() | MixtureOfTransformersFusion():
            if num_layers != num_blocks:
                raise UserError(
                    f"fusion {fusion.type!r} needs equally deep towers, but the understanding tower has {num_layers} "
                    f"layers and the generation tower {num_blocks} blocks: set model.num_blocks = {num_layers} or use "
                    "'mos'"
                )
            return list(range(num_layers))
        case SelfAttentionFusion() | CrossAttentionFusion():
            return [num_layers - 1] * num_blocks
        case _:
            assert_never(fusion)
