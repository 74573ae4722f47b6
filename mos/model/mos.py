"""Mixture of States: the router and the generation tower put together (paper figure 3, algorithms 1 and 2).

Dimension key
    batch  samples            channels, height, width  of a latent       img    latent tokens
    ctx    context tokens     layers  m + 1 hidden states                block  n generation blocks
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from mos.config import StrictConfig
from mos.model.context import Context
from mos.model.fusion import (
    CrossAttentionFusion,
    DepthwiseFusion,
    FusionConfig,
    LayerAttentionFusion,
    MixtureOfTransformersFusion,
    RoutedFusion,
    fixed_layers,
)
from mos.model.generation import CrossAttentionBlock, GenerationBlock, MixtureOfTransformersBlock
from mos.model.layer_attention import LayerAttention
from mos.model.layers import RMSNorm
from mos.model.mixing import mix_context
from mos.model.patchify import patchify, unpatchify
from mos.model.rope import image_positions, rotary_angles
from mos.model.router import Router
from mos.model.routing import Exploration, Routing, route


class ModelConfig(StrictConfig):
    """Shape of the trainable model; the frozen tower and the codec appear only by their widths."""

    latent_channels: int = Field(gt=0)
    """Channels of the codec's latents."""
    patch: int = Field(gt=0)
    """Side of a token, in latent pixels."""
    state_dim: int = Field(gt=0)
    """Width of the understanding tower."""
    state_layers: int = Field(gt=0)
    """m, layers of the understanding tower that can be routed, its input embedding not counted."""
    routed_layers: tuple[int, ...] | None = None
    """Which of the tower's layers these are, ascending from 1; None: its first `state_layers`, that is all of them."""
    dim: int = Field(gt=0)
    """Width of the generation tower."""
    num_blocks: int = Field(gt=0)
    """n, generation blocks."""
    num_heads: int = Field(gt=0)
    """Attention heads; `dim` must divide by 4 * `num_heads` (two rotary axes, two channels a pair)."""
    ffn_dim: int = Field(gt=0)
    """Hidden width of the feed-forward."""
    num_registers: int = Field(4, ge=0)
    """Learnable tokens in the image stream (appendix A)."""
    fusion: FusionConfig
    """How hidden states reach the blocks; `mos` is the method, the others are its baselines."""

    @model_validator(mode="after")
    def _divisible(self) -> "ModelConfig":
        if self.dim % (4 * self.num_heads):
            raise ValueError(f"dim {self.dim} must be a multiple of 4 * num_heads = {4 * self.num_heads}")
        if isinstance(self.fusion, MixtureOfTransformersFusion) and self.state_dim % (8 * self.fusion.num_heads):
            raise ValueError(
                f"state_dim {self.state_dim} must be a multiple of 8 * fusion.num_heads = {8 * self.fusion.num_heads}: "
                "keys and values of the tower, in its heads"
            )
        if isinstance(self.fusion, RoutedFusion):
            router = self.fusion.router
            if router.dim % (2 * router.num_heads):
                raise ValueError(
                    f"router.dim {router.dim} must be a multiple of 2 * num_heads = {2 * router.num_heads}"
                )
            if router.top_k > self.state_layers:
                raise ValueError(f"router.top_k {router.top_k} exceeds the tower's {self.state_layers} layers")
        return self

    @model_validator(mode="after")
    def _ascending(self) -> "ModelConfig":
        routed = self.routed_layers
        if routed is not None and (len(routed) != self.state_layers or list(routed) != sorted(set(routed) - {0})):
            raise ValueError(
                f"routed_layers {list(routed)} must be state_layers = {self.state_layers} ascending from 1"
            )
        return self

    @property
    def attention_heads(self) -> int:
        """Heads of the blocks' attention: with `mot` the understanding tower's."""
        return self.fusion.num_heads if isinstance(self.fusion, MixtureOfTransformersFusion) else self.num_heads

    @property
    def attention_dim(self) -> int:
        """Width of the blocks' attention, all heads together."""
        return self.state_dim // 2 if isinstance(self.fusion, MixtureOfTransformersFusion) else self.dim

    @property
    def hidden_states(self) -> tuple[int, ...]:
        """Those of the tower's m + 1 hidden states that the model reads: the embedding and the layers it routes."""
        return (0, *(self.routed_layers or range(1, self.state_layers + 1)))


class MoS(nn.Module):
    """Velocity of a noised latent given all hidden states of a context."""

    block_layers: Int[Tensor, " block"]
    """The layer that each block reads, where there is no router."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shape = config
        patch_channels = config.latent_channels * config.patch**2
        self.patch_in = nn.Linear(patch_channels, config.dim)
        self.reference_role = nn.Parameter(torch.zeros(config.dim))
        self.registers = nn.Parameter(torch.zeros(config.num_registers, config.dim)) if config.num_registers else None
        self.blocks = nn.ModuleList(
            _block_class(config)(
                dim=config.dim, num_heads=config.attention_heads, ffn_dim=config.ffn_dim, state_dim=config.state_dim
            )
            for _ in range(config.num_blocks)
        )
        self.norm_out = RMSNorm(config.dim)
        self.patch_out = nn.Linear(config.dim, patch_channels)
        self.router: Router | None = None
        if isinstance(config.fusion, RoutedFusion):
            self.router = Router(
                config.fusion.router,
                state_dim=config.state_dim,
                latent_dim=config.dim,
                num_layers=config.state_layers,
                num_generation_blocks=config.num_blocks,
            )
        elif isinstance(config.fusion, DepthwiseFusion):
            self.depth_logits = nn.Parameter(torch.zeros(config.state_layers, config.num_blocks))
        elif isinstance(config.fusion, LayerAttentionFusion):
            self.layer_attention = LayerAttention(
                dim=config.fusion.dim, state_dim=config.state_dim, num_blocks=config.num_blocks
            )
        else:
            # On the CPU even under torch.device("meta"): an export is read into a meta model, and holds weights alone.
            self.register_buffer("block_layers", torch.tensor(self._fixed_layers(), device="cpu"), persistent=False)

    def forward(
        self,
        latents: Float[Tensor, "batch channels height width"],
        timestep: Float[Tensor, " batch"],
        context: Context,
        *,
        reference: Float[Tensor, "batch channels height width"] | None = None,
        exploration: Exploration | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Velocity v = dz_t/dt at z_t, in float32.

        Args:
            latents: z_t; sides are multiples of the patch size.
            timestep: t in [0, 1], 0 = data, 1 = noise; only the router sees it.
            context: hidden states of the understanding tower.
            reference: clean latent of the image to edit, of the size of `latents` (section 3.4).
            exploration: epsilon-greedy draws; training only.
        """
        height, width = latents.shape[-2:]
        tokens, positions = self._embed(latents)
        routing = self._route(tokens, positions, timestep, context, exploration)
        image, angles = self._image_stream(tokens, positions, reference)
        normed = not isinstance(self.shape.fusion, MixtureOfTransformersFusion)
        for block, mixed in zip(self.blocks, mix_context(context, routing, normed=normed), strict=True):
            image = block(image, mixed.to(image.dtype), context.layout, angles)
        first = self.shape.num_registers
        out = self.patch_out(self.norm_out(image[:, first : first + tokens.shape[1]]))
        return unpatchify(out.float(), self.shape.patch, height, width)

    def route(
        self,
        latents: Float[Tensor, "batch channels height width"],
        timestep: Float[Tensor, " batch"],
        context: Context,
    ) -> Routing:
        """The routing that `forward` would use without exploration: for figures and layer-usage reports."""
        tokens, positions = self._embed(latents)
        return self._route(tokens, positions, timestep, context, None)

    def _embed(self, latents: Tensor) -> tuple[Float[Tensor, "batch img dim"], Float[Tensor, "img 2"]]:
        """Patchify, shared by the generation tower and the router."""
        p = self.shape.patch
        tokens = self.patch_in(patchify(latents, p).to(self.patch_in.weight.dtype))
        return tokens, image_positions(latents.shape[-2] // p, latents.shape[-1] // p, latents.device)

    def _route(
        self,
        tokens: Tensor,
        positions: Tensor,
        timestep: Tensor,
        context: Context,
        exploration: Exploration | None,
    ) -> Routing:
        if self.router is None:
            return self._routing_without_router(context)
        logits = self.router(context.embedding, context.layout.mask, timestep, tokens, positions)
        return route(logits, self.router.config.top_k, exploration)

    def _fixed_layers(self) -> list[int]:
        """The layer of each block where there is no router."""
        fusion = self.shape.fusion
        assert not isinstance(fusion, RoutedFusion | DepthwiseFusion | LayerAttentionFusion)
        return fixed_layers(fusion, self.shape.state_layers, self.shape.num_blocks)

    def _routing_without_router(self, context: Context) -> Routing:
        """The same at every timestep: learned weights of all layers, or one layer a block with weight 1."""
        if isinstance(self.shape.fusion, LayerAttentionFusion):
            return route(self.layer_attention(context), self.shape.state_layers)
        if isinstance(self.shape.fusion, DepthwiseFusion):
            logits = self.depth_logits.expand(*context.layout.mask.shape, -1, -1)
            return route(logits, self.shape.state_layers)
        layers = self.block_layers.to(context.layout.mask.device)
        index = layers[None, None, :, None].expand(*context.layout.mask.shape, -1, 1)
        weights = nn.functional.one_hot(index[..., 0], self.shape.state_layers).transpose(2, 3).float()
        return Routing(weights, index, torch.ones_like(index, dtype=torch.float32))

    def _image_stream(
        self, tokens: Tensor, positions: Tensor, reference: Tensor | None
    ) -> tuple[Float[Tensor, "batch seq dim"], Float[Tensor, "seq pairs"]]:
        """[registers | latent | reference] and their rotary angles; the reference lies on the latent's positions."""
        parts, coordinates = [tokens], [positions]
        if self.registers is not None:
            parts.insert(0, self.registers.to(tokens.dtype).expand(len(tokens), -1, -1))
            coordinates.insert(0, positions.new_zeros(len(self.registers), 2))
        if reference is not None:
            parts.append(self._embed(reference)[0] + self.reference_role.to(tokens.dtype))
            coordinates.append(positions)
        head_dim = self.shape.attention_dim // self.shape.attention_heads
        return torch.cat(parts, dim=1), rotary_angles(torch.cat(coordinates), head_dim)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Initialise in place, with `initial_weights`: also a model that was built on the meta device."""
        weights = dict(self.named_parameters())
        for name, value in self.initial_weights(generator):
            weights[name].copy_(value)
        self.init_buffers()

    def init_buffers(self) -> None:
        """Fill what is no weight: the layer of each block, where there is no router."""
        if "block_layers" in self._buffers:
            self.block_layers = torch.tensor(self._fixed_layers(), device=self.block_layers.device)

    def initial_weights(self, generator: torch.Generator | None = None) -> Iterator[tuple[str, Tensor]]:
        """Name and first values of every weight, one after the other, whole, wherever the model's own are.

        | weights | values |
        |---|---|
        | norms | 1 |
        | `patch_out` | 0, so that the first prediction is v = 0 |
        | branch outputs (`out`, `cross_out`, `down`) | normal, std 1 / sqrt(fan_in * 2 * depth) |
        | other linear weights | normal, std 1 / sqrt(fan_in) |
        | biases of `state_in` | uniform within 1 / sqrt(fan_in): what the size of eq. 4's sum is compared with |
        | other biases | 0 |
        | router head | normal, std 0.02: close to uniform weights without ties |
        | registers, reference role, [CLS], queries of layers | normal, std 0.02 |
        | weights of layers that are learned without a router | equal |
        """
        device = torch.device("cpu") if generator is None else generator.device

        def normal(like: Tensor, std: float) -> Tensor:
            return torch.empty(like.shape, device=device).normal_(0.0, std, generator=generator)

        for name, module in self.named_modules():
            if isinstance(module, RMSNorm):
                yield f"{name}.weight", torch.ones(module.weight.shape, device=device)
            elif isinstance(module, nn.Linear):
                leaf = name.rsplit(".", 1)[-1]
                std = 1 / math.sqrt(module.in_features)
                if leaf in ("out", "cross_out", "down"):
                    std /= math.sqrt(2 * self.shape.num_blocks)
                value = normal(module.weight, 0.02 if leaf == "head" else std)
                yield f"{name}.weight", torch.zeros_like(value) if module is self.patch_out else value
                if module.bias is not None:
                    bias = torch.zeros(module.bias.shape, device=device)
                    yield f"{name}.bias", bias.uniform_(-std, std, generator=generator) if leaf == "state_in" else bias
        if self.registers is not None:
            yield "registers", normal(self.registers, 0.02)
        yield "reference_role", normal(self.reference_role, 0.02)
        if isinstance(self.shape.fusion, DepthwiseFusion):
            yield "depth_logits", torch.zeros(self.depth_logits.shape, device=device)
        elif isinstance(self.shape.fusion, LayerAttentionFusion):
            yield "layer_attention.queries", normal(self.layer_attention.queries, 0.02)
        elif self.router is not None and self.router.config.prediction == "sample":
            yield "router.cls", normal(self.router.cls, 0.02)


def _block_class(config: ModelConfig) -> type[GenerationBlock | CrossAttentionBlock | MixtureOfTransformersBlock]:
    match config.fusion:
        case CrossAttentionFusion():
            return CrossAttentionBlock
        case MixtureOfTransformersFusion():
            return MixtureOfTransformersBlock
        case _:
            return GenerationBlock
