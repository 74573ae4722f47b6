"""A block of the generation tower: image tokens attend to themselves and to routed context (paper section 3.3).

Only the image tokens carry on to the next block (algorithm 1, line 13), so context tokens need keys and values
alone: no query, no attention output, no feed-forward. `mos.model.full_concatenation` is the literal form.

Dimension key
    batch  samples     img  image, reference and register tokens      ctx  context tokens
    dim    width       sdim width of the understanding tower          hdim width of a head
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mos.model.layers import RMSNorm, SwiGLU, attend, split_heads
from mos.model.rope import rotate


class ContextKV(nn.Module):
    """Mixed states of one block to normalised context tokens: Proj_j, then the context's own norm."""

    def __init__(self, state_dim: int, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(state_dim, dim, bias=False)
        self.norm = RMSNorm(dim)

    def forward(self, mixed: Float[Tensor, "batch ctx sdim"]) -> Float[Tensor, "batch ctx dim"]:
        """Context tokens as the shared K/V projection takes them."""
        return self.norm(self.projection(mixed))


class GenerationBlock(nn.Module):
    """In-context block: shared K/V projection over image and context, separate norms for the two modalities."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, state_dim: int) -> None:
        super().__init__()
        head_dim = dim // num_heads
        self.num_heads = num_heads
        self.context = ContextKV(state_dim, dim)
        self.image_norm = RMSNorm(dim)
        self.q = nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.q_norm = RMSNorm(head_dim)
        self.image_k_norm = RMSNorm(head_dim)
        self.context_k_norm = RMSNorm(head_dim)
        self.out = nn.Linear(dim, dim, bias=False)
        self.ffn_norm = RMSNorm(dim)
        self.ffn = SwiGLU(dim, ffn_dim)

    def forward(
        self,
        image: Float[Tensor, "batch img dim"],
        mixed: Float[Tensor, "batch ctx sdim"],
        mask: Bool[Tensor, "batch ctx"],
        angles: Float[Tensor, "img pairs"],
    ) -> Float[Tensor, "batch img dim"]:
        """Image tokens after attention over [image | context] and the feed-forward.

        Args:
            image: the image stream.
            mixed: S_j, the mixed states of this block (eq. 4).
            mask: True at real context tokens.
            angles: rotary angles of the image stream.
        """
        num_image = image.shape[1]
        hidden = self.image_norm(image)
        both = torch.cat([hidden, self.context(mixed)], dim=1)
        k, v = (split_heads(part, self.num_heads) for part in self.kv(both).chunk(2, dim=-1))
        q = rotate(self.q_norm(split_heads(self.q(hidden), self.num_heads)), angles)
        image_k = rotate(self.image_k_norm(k[:, :, :num_image]), angles)
        k = torch.cat([image_k, self.context_k_norm(k[:, :, num_image:])], dim=2)
        keep = torch.cat([mask.new_ones(len(mask), num_image), mask], dim=1)
        image = image + self.out(attend(q, k, v, keep))
        return image + self.ffn(self.ffn_norm(image))


class CrossAttentionBlock(nn.Module):
    """Baseline block: self-attention over the image, then cross-attention to the context."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, state_dim: int) -> None:
        super().__init__()
        head_dim = dim // num_heads
        self.num_heads = num_heads
        self.context = ContextKV(state_dim, dim)
        self.image_norm = RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_norm = RMSNorm(head_dim)
        self.k_norm = RMSNorm(head_dim)
        self.out = nn.Linear(dim, dim, bias=False)
        self.cross_norm = RMSNorm(dim)
        self.cross_q = nn.Linear(dim, dim, bias=False)
        self.cross_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.cross_q_norm = RMSNorm(head_dim)
        self.cross_k_norm = RMSNorm(head_dim)
        self.cross_out = nn.Linear(dim, dim, bias=False)
        self.ffn_norm = RMSNorm(dim)
        self.ffn = SwiGLU(dim, ffn_dim)

    def forward(
        self,
        image: Float[Tensor, "batch img dim"],
        mixed: Float[Tensor, "batch ctx sdim"],
        mask: Bool[Tensor, "batch ctx"],
        angles: Float[Tensor, "img pairs"],
    ) -> Float[Tensor, "batch img dim"]:
        """Image tokens after both attentions and the feed-forward; arguments as in `GenerationBlock`."""
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(self.image_norm(image)).chunk(3, dim=-1))
        q, k = rotate(self.q_norm(q), angles), rotate(self.k_norm(k), angles)
        image = image + self.out(attend(q, k, v, None))
        k, v = (split_heads(part, self.num_heads) for part in self.cross_kv(self.context(mixed)).chunk(2, dim=-1))
        q = self.cross_q_norm(split_heads(self.cross_q(self.cross_norm(image)), self.num_heads))
        image = image + self.cross_out(attend(q, self.cross_k_norm(k), v, mask))
        return image + self.ffn(self.ffn_norm(image))
