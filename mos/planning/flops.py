"""Floating-point operations by formula; a multiplication and an addition count as two, norms and softmax as none."""

from typing import assert_never

from mos.model.fusion import (
    CrossAttentionFusion,
    DepthwiseFusion,
    HandCraftedFusion,
    LayerAttentionFusion,
    LayerwiseFusion,
    MixtureOfTransformersFusion,
    RoutedFusion,
    SelfAttentionFusion,
)
from mos.model.mos import ModelConfig
from mos.model.router import TIMESTEP_CHANNELS, RouterConfig

FORWARD_AND_BACKWARD = 3
"""A training step against its forward pass: the backward pass computes two products for each of the forward's."""


def tower_parameters(layers: int, dim: int) -> float:
    """Parameters of `layers` transformer blocks of width `dim`: 12 layers dim².

    Exact to the biases for BERT's blocks (MiniLM). Blocks with gated feed-forwards and grouped keys differ: Llama-3-8B
    has 8% more (6.98e9), Qwen2.5-14B 13% fewer (13.2e9); name those with `plan.tower_params`.
    """
    return 12.0 * layers * dim**2


def tower_flops(parameters: float, tokens: float) -> float:
    """FLOPs of the understanding tower over one context: 2 parameters tokens.

    `parameters` are those of the blocks, embeddings apart. Attention scores (below 1% for 200 tokens at width 4096)
    and the vision encoder of a tower that sees images are not counted.
    """
    return 2.0 * parameters * tokens


def generation_flops(model: ModelConfig, image: int, context: float, reference: int = 0) -> float:
    """FLOPs of one sample's forward pass through router and generation tower.

    Args:
        model: shape of both.
        image: latent tokens of the sample.
        context: context tokens.
        reference: latent tokens of the picture to edit.
    """
    patch_channels = model.latent_channels * model.patch**2
    stream = model.num_registers + image + reference
    embed = 2 * (image + reference) * patch_channels * model.dim
    out = 2 * image * model.dim * patch_channels
    match model.fusion:
        case RoutedFusion() as routed:
            router = _router_flops(routed.router, model, image, context)
            return embed + out + router + model.num_blocks * _in_context_block(model, stream, context)
        case LayerAttentionFusion(dim=dim):
            logits = 2 * context * model.state_layers * dim * (model.state_dim + model.num_blocks)
            return embed + out + logits + model.num_blocks * _in_context_block(model, stream, context)
        case MixtureOfTransformersFusion():
            return embed + out + model.num_blocks * _mixture_of_transformers_block(model, stream, context)
        case DepthwiseFusion() | HandCraftedFusion() | LayerwiseFusion() | SelfAttentionFusion():
            return embed + out + model.num_blocks * _in_context_block(model, stream, context)
        case CrossAttentionFusion():
            return embed + out + model.num_blocks * _cross_attention_block(model, stream, context)
        case _:
            assert_never(model.fusion)


def training_flops(forward: float, recompute: bool) -> float:
    """FLOPs of a training step's share of one sample, of its forward pass; activation checkpointing adds a forward."""
    return forward * (FORWARD_AND_BACKWARD + recompute)


def _in_context_block(model: ModelConfig, stream: float, context: float) -> float:
    """Context projection, keys and values of all tokens, queries, scores, output and feed-forward of the image's."""
    dim = model.dim
    projection = 2 * context * model.state_dim * dim
    keys_values = 2 * (stream + context) * dim * 2 * dim
    query_out = 2 * stream * dim * 2 * dim
    scores = 2 * 2 * stream * (stream + context) * dim
    return projection + keys_values + query_out + scores + _feed_forward(stream, dim, model.ffn_dim)


def _mixture_of_transformers_block(model: ModelConfig, stream: float, context: float) -> float:
    """Attention of the image's tokens in the width of the understanding tower, which has its own keys and values."""
    width = model.attention_dim
    own = 2 * stream * model.dim * 4 * width + 2 * 2 * stream * (stream + context) * width
    return own + _feed_forward(stream, model.dim, model.ffn_dim)


def _cross_attention_block(model: ModelConfig, stream: float, context: float) -> float:
    """Self-attention of the image's tokens, then attention to the context."""
    dim = model.dim
    own = 2 * stream * dim * 4 * dim + 2 * 2 * stream * stream * dim
    projection = 2 * context * model.state_dim * dim + 2 * context * dim * 2 * dim
    cross = 2 * stream * dim * 2 * dim + 2 * 2 * stream * context * dim
    return own + projection + cross + _feed_forward(stream, dim, model.ffn_dim)


def _router_flops(router: RouterConfig, model: ModelConfig, image: int, context: float) -> float:
    """Input projections, bidirectional blocks over [context | cls | timestep | latent], logits of context tokens."""
    seen = context if router.prediction == "token" else context + 1
    timesteps = "timestep" in router.inputs
    latents = image if "latent" in router.inputs else 0
    sequence = seen + timesteps + latents
    inputs = 2 * router.dim * (context * model.state_dim + timesteps * TIMESTEP_CHANNELS + latents * model.dim)
    attention = 2 * sequence * router.dim * 4 * router.dim + 2 * 2 * sequence**2 * router.dim
    blocks = router.num_blocks * (attention + _feed_forward(sequence, router.dim, router.ffn_dim))
    return inputs + blocks + 2 * context * router.dim * model.state_layers * model.num_blocks


def _feed_forward(tokens: float, dim: int, hidden: int) -> float:
    return 2 * tokens * 3 * dim * hidden
