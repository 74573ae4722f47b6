"""The router: context, timestep and noised latent in, layer logits for every context token out (paper section 3.2).

Dimension key
    batch  samples            ctx    context tokens          img    latent tokens
    sdim   width of the understanding tower                  gdim   width of the generation tower
    layer  m understanding layers                            block  n generation blocks
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from mos.config import StrictConfig
from mos.model.attention import attend, split_heads
from mos.model.layers import RMSNorm, SwiGLU, norm_and_rotate, timestep_embedding
from mos.model.rope import rotary_angles

TIMESTEP_CHANNELS = 256
"""Width of the sinusoidal timestep embedding before its projection."""


RouterInput = Literal["context", "latent", "timestep"]


class RouterConfig(StrictConfig):
    """Shape of the router and of its selection."""

    dim: int = Field(gt=0)
    """Width; a multiple of 2 * `num_heads`."""
    num_heads: int = Field(gt=0)
    """Attention heads of its blocks."""
    ffn_dim: int = Field(gt=0)
    """Hidden width of its feed-forward."""
    num_blocks: int = Field(2, gt=0)
    """Bidirectional transformer blocks; the paper uses two."""
    prediction: Literal["token", "sample"] = "token"
    """`token`: every context token gets its own logits (the method). `sample`: one [CLS] token decides for the whole
    context (the baseline of paper table 2)."""
    inputs: tuple[RouterInput, ...] = ("context", "latent", "timestep")
    """What it sees: all three are the method, `context` alone and with `latent` the conditions of paper table 1."""
    norms: Literal["separate", "shared"] = "separate"
    """`separate`: an RMSNorm for each input before its projection (the method). `shared`: one behind the projections,
    for all inputs alike (the baseline of paper figure 9)."""
    top_k: int = Field(2, gt=0)
    """Hidden states mixed per token and block."""
    epsilon: float = Field(0.05, ge=0, le=1)
    """Training only: share of (token, block) pairs whose layers are drawn at random."""

    @model_validator(mode="after")
    def _sees_the_context(self) -> "RouterConfig":
        if "context" not in self.inputs or len(set(self.inputs)) < len(self.inputs):
            raise ValueError(f"router.inputs {list(self.inputs)} must name the context, and each input once")
        return self


class RouterBlock(nn.Module):
    """Pre-norm transformer block with bidirectional attention and QK-norm."""

    def __init__(self, config: RouterConfig) -> None:
        super().__init__()
        head_dim = config.dim // config.num_heads
        self.num_heads = config.num_heads
        self.attention_norm = RMSNorm(config.dim)
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.q_norm = RMSNorm(head_dim)
        self.k_norm = RMSNorm(head_dim)
        self.out = nn.Linear(config.dim, config.dim, bias=False)
        self.ffn_norm = RMSNorm(config.dim)
        self.ffn = SwiGLU(config.dim, config.ffn_dim)

    def forward(
        self, x: Float[Tensor, "batch seq dim"], angles: Float[Tensor, "seq pairs"], mask: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch seq dim"]:
        """Same shape as x; keys whose mask is False are not attended to."""
        q, k, v = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        q, k = norm_and_rotate(q, self.q_norm, angles), norm_and_rotate(k, self.k_norm, angles)
        x = x + self.out(attend(q, k, split_heads(v, self.num_heads), mask))
        return x + self.ffn(self.ffn_norm(x))


class Router(nn.Module):
    """Scores every (understanding layer, generation block) pair, per context token or per sample."""

    def __init__(
        self, config: RouterConfig, *, state_dim: int, latent_dim: int, num_layers: int, num_generation_blocks: int
    ) -> None:
        super().__init__()
        self.config = config
        self.num_layers = num_layers
        self.head_dim = config.dim // config.num_heads
        self.num_generation_blocks = num_generation_blocks
        separate = config.norms == "separate"
        self.context_norm = RMSNorm(state_dim) if separate else nn.Identity()
        self.context_in = nn.Linear(state_dim, config.dim, bias=False)
        if "latent" in config.inputs:
            self.latent_norm = RMSNorm(latent_dim) if separate else nn.Identity()
            self.latent_in = nn.Linear(latent_dim, config.dim, bias=False)
        if "timestep" in config.inputs:
            self.timestep_norm = RMSNorm(TIMESTEP_CHANNELS) if separate else nn.Identity()
            self.timestep_in = nn.Linear(TIMESTEP_CHANNELS, config.dim, bias=False)
        self.input_norm = nn.Identity() if separate else RMSNorm(config.dim)
        if config.prediction == "sample":
            self.cls = nn.Parameter(torch.zeros(config.dim))
        self.blocks = nn.ModuleList(RouterBlock(config) for _ in range(config.num_blocks))
        self.head_norm = RMSNorm(config.dim)
        self.head = nn.Linear(config.dim, num_layers * num_generation_blocks, bias=False)

    def forward(
        self,
        context: Float[Tensor, "batch ctx sdim"],
        mask: Bool[Tensor, "batch ctx"],
        timestep: Float[Tensor, " batch"],
        latent: Float[Tensor, "batch img gdim"],
        positions: Float[Tensor, "img 2"],
    ) -> Float[Tensor, "batch ctx layer block"]:
        """Logits w_ij of every token.

        Args:
            context: input embeddings of the understanding tower (its hidden state 0).
            mask: True at real context tokens.
            timestep: t in [0, 1], 0 = data, 1 = noise.
            latent: noised latent after the generation tower's patchify.
            positions: row and column of each latent token.
        """
        num_ctx = context.shape[1]
        x = self._sequence(context, timestep, latent)
        num_extra = x.shape[1] - num_ctx
        keep = torch.cat([mask, mask.new_ones(len(mask), num_extra)], dim=1)
        seen = positions if "latent" in self.config.inputs else positions[:0]
        angles = rotary_angles(self._positions(num_ctx, num_extra, seen), self.head_dim)
        for block in self.blocks:
            x = block(x, angles, keep)
        tokens = x[:, :num_ctx]
        if self.config.prediction == "sample":
            tokens = x[:, num_ctx : num_ctx + 1].expand_as(tokens)
        return self.head(self.head_norm(tokens)).unflatten(-1, (self.num_layers, self.num_generation_blocks))

    def _sequence(self, context: Tensor, timestep: Tensor, latent: Tensor) -> Float[Tensor, "batch seq dim"]:
        """[context | cls where used | timestep | latent], of these what the router sees, normalised and projected."""
        dtype = self.context_in.weight.dtype
        parts = [self.context_in(self.context_norm(context.to(dtype)))]
        if self.config.prediction == "sample":
            parts.append(self.cls.to(dtype).expand(len(context), 1, -1))
        if "timestep" in self.config.inputs:
            embedded = timestep_embedding(timestep, TIMESTEP_CHANNELS).to(dtype)
            parts.append(self.timestep_in(self.timestep_norm(embedded))[:, None])
        if "latent" in self.config.inputs:
            parts.append(self.latent_in(self.latent_norm(latent)))
        return self.input_norm(torch.cat(parts, dim=1))

    @staticmethod
    def _positions(num_ctx: int, num_extra: int, image: Float[Tensor, "img 2"]) -> Float[Tensor, "seq 3"]:
        """Axes (context index, row, column): context tokens move on the first, latent tokens on the other two."""
        positions = image.new_zeros(num_ctx + num_extra, 3)
        positions[:num_ctx, 0] = torch.arange(num_ctx, device=image.device, dtype=image.dtype)
        positions[num_ctx + num_extra - len(image) :, 1:] = image
        return positions
