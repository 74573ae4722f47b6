"""A block of the generation tower: image tokens attend to themselves and to routed context (paper section 3.3).

Only the image tokens carry on to the next block (algorithm 1, line 13), so context tokens need keys and values
alone: no query, no attention output, no feed-forward. `mos.model.full_concatenation` is the literal form.

The context's own norm (appendix A, modality-specific norms) stands behind `Proj_j`. A norm forgets the size of what it
is given, and the size of eq. 4's sum is what tells the router how much to pick, and all that tells it so where k = 1.
`Proj_j` is therefore a linear layer with a bias, and one that is not zero at the start: what passes the norm is the sum
relative to the bias, whatever the states' own scale, since `mos.model.mixing` brings them to unit size.

Dimension key
    batch  samples     img  image, reference and register tokens      token  context tokens of all samples
    dim    width       sdim width of the understanding tower          pairs  half the width of a head
"""

from jaxtyping import Float
from torch import Tensor, nn

from mos.model.attention import attend, attend_with_context, split_heads
from mos.model.context import ContextLayout
from mos.model.layers import RMSNorm, SwiGLU, norm_and_rotate


class GenerationBlock(nn.Module):
    """In-context block: shared K/V projection over image and context, separate norms for the two modalities.

    `state_in` is Proj_j of section 3.3, `context_norm` the norm of its modality.
    """

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, state_dim: int) -> None:
        super().__init__()
        head_dim = dim // num_heads
        self.num_heads = num_heads
        self.state_in = nn.Linear(state_dim, dim)
        self.context_norm = RMSNorm(dim)
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
        mixed: Float[Tensor, "token sdim"],
        layout: ContextLayout,
        angles: Float[Tensor, "img pairs"],
    ) -> Float[Tensor, "batch img dim"]:
        """Image tokens after attention over [image | context] and the feed-forward.

        Args:
            image: the image stream.
            mixed: S_j, the mixed states of this block (eq. 4).
            layout: whose context tokens they are.
            angles: rotary angles of the image stream.
        """
        context = self.context_norm(self.state_in(mixed))
        context_k, context_v = (split_heads(part, self.num_heads) for part in self.kv(context).chunk(2, dim=-1))
        return _in_context(self, image, self.context_k_norm(context_k), context_v, layout, angles)


class MixtureOfTransformersBlock(nn.Module):
    """Baseline block: image tokens attend to themselves and to the understanding tower's own keys and values, in its
    heads. Nothing of the context is projected or normed here: a mixed state is [K | V] of one layer.
    """

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, state_dim: int) -> None:
        """`num_heads` are those of the understanding tower, whose width is half of `state_dim`."""
        super().__init__()
        width = state_dim // 2
        self.num_heads = num_heads
        self.image_norm = RMSNorm(dim)
        self.q = nn.Linear(dim, width, bias=False)
        self.kv = nn.Linear(dim, 2 * width, bias=False)
        self.q_norm = RMSNorm(width // num_heads)
        self.image_k_norm = RMSNorm(width // num_heads)
        self.out = nn.Linear(width, dim, bias=False)
        self.ffn_norm = RMSNorm(dim)
        self.ffn = SwiGLU(dim, ffn_dim)

    def forward(
        self,
        image: Float[Tensor, "batch img dim"],
        mixed: Float[Tensor, "token sdim"],
        layout: ContextLayout,
        angles: Float[Tensor, "img pairs"],
    ) -> Float[Tensor, "batch img dim"]:
        """Image tokens after attention and the feed-forward; arguments as in `GenerationBlock`."""
        context_k, context_v = (split_heads(part, self.num_heads) for part in mixed.chunk(2, dim=-1))
        return _in_context(self, image, context_k, context_v, layout, angles)


def _in_context(
    block: GenerationBlock | MixtureOfTransformersBlock,
    image: Float[Tensor, "batch img dim"],
    context_k: Float[Tensor, "token heads hdim"],
    context_v: Float[Tensor, "token heads hdim"],
    layout: ContextLayout,
    angles: Float[Tensor, "img pairs"],
) -> Float[Tensor, "batch img dim"]:
    """Image tokens after attention over themselves and the context's keys and values, and the feed-forward."""
    hidden = block.image_norm(image)
    k, v = block.kv(hidden).chunk(2, dim=-1)
    attended = attend_with_context(
        norm_and_rotate(block.q(hidden), block.q_norm, angles),
        norm_and_rotate(k, block.image_k_norm, angles),
        split_heads(v, block.num_heads),
        context_k,
        context_v,
        layout,
    )
    image = image + block.out(attended)
    return image + block.ffn(block.ffn_norm(image))


class CrossAttentionBlock(nn.Module):
    """Baseline block: self-attention over the image, then cross-attention to the context."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, state_dim: int) -> None:
        super().__init__()
        head_dim = dim // num_heads
        self.num_heads = num_heads
        self.state_in = nn.Linear(state_dim, dim)
        self.context_norm = RMSNorm(dim)
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
        mixed: Float[Tensor, "token sdim"],
        layout: ContextLayout,
        angles: Float[Tensor, "img pairs"],
    ) -> Float[Tensor, "batch img dim"]:
        """Image tokens after both attentions and the feed-forward; arguments as in `GenerationBlock`."""
        q, k, v = self.qkv(self.image_norm(image)).chunk(3, dim=-1)
        q, k = norm_and_rotate(q, self.q_norm, angles), norm_and_rotate(k, self.k_norm, angles)
        image = image + self.out(attend(q, k, split_heads(v, self.num_heads), None))
        context = self.context_norm(self.state_in(mixed))
        k, v = (split_heads(part, self.num_heads) for part in self.cross_kv(context).chunk(2, dim=-1))
        q = self.cross_q_norm(split_heads(self.cross_q(self.cross_norm(image)), self.num_heads))
        k, v = layout.pad(self.cross_k_norm(k)), layout.pad(v)
        image = image + self.cross_out(attend(q, k, v, layout.mask))
        return image + self.ffn(self.ffn_norm(image))
