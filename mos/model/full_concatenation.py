"""The plain reference of the model: every block processes the literal concatenation (paper algorithm 1, line 12).

H_j = Concat(Proj(S_j^c), S_j^z) goes through attention and feed-forward whole; only S^z is kept. It is slower and
larger than `MoS.forward` and must agree with it to rounding; tests and benchmarks compare the two.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mos.kernels.rms_norm.reference import rotate
from mos.model.attention import attend, split_heads
from mos.model.context import Context
from mos.model.generation import GenerationBlock
from mos.model.mos import MoS
from mos.model.patchify import unpatchify
from mos.model.routing import Exploration


def full_concatenation_forward(
    model: MoS,
    latents: Float[Tensor, "batch channels height width"],
    timestep: Float[Tensor, " batch"],
    context: Context,
    *,
    reference: Float[Tensor, "batch channels height width"] | None = None,
    exploration: Exploration | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Velocity, computed with context tokens as full members of every block's sequence."""
    height, width = latents.shape[-2:]
    tokens, positions = model._embed(latents)
    routing = model._route(tokens, positions, timestep, context, exploration)
    image, angles = model._image_stream(tokens, positions, reference)
    assert isinstance(context.states, Tensor), "the literal form mixes states as a tower gives them"
    states = context.layout.pad(context.states)
    states = states * states.float().square().mean(-1, keepdim=True).add(1e-6).rsqrt().to(states.dtype)
    for j, block in enumerate(model.blocks):
        mixed = _mix_all_layers(states, routing.index[:, :, j], routing.picked[:, :, j])
        image = _full_block(block, image, mixed.to(image.dtype), context.layout.mask, angles)
    first = model.shape.num_registers
    out = model.patch_out(model.norm_out(image[:, first : first + tokens.shape[1]]))
    return unpatchify(out.float(), model.shape.patch, height, width)


def _mix_all_layers(states: Tensor, index: Tensor, weights: Tensor) -> Float[Tensor, "batch ctx dim"]:
    """Eq. 4 as a sum over all m layers with zeros at those that were not picked."""
    dense = states.new_zeros(*states.shape[:3]).scatter(2, index + 1, weights.to(states.dtype))
    return torch.einsum("bcl,bcld->bcd", dense, states)


def _full_block(block: nn.Module, image: Tensor, mixed: Tensor, mask: Tensor, angles: Tensor) -> Tensor:
    """One block over [image | context]; both get queries, attention output and feed-forward."""
    assert isinstance(block, GenerationBlock), "the literal form exists for in-context blocks"
    num_image, num_context = image.shape[1], mixed.shape[1]
    projected = block.state_in(mixed)
    sequence = torch.cat([image, projected], dim=1)
    normed = torch.cat([block.image_norm(image), block.context_norm(projected)], dim=1)
    q = split_heads(block.q(normed), block.num_heads)
    k, v = (split_heads(part, block.num_heads) for part in block.kv(normed).chunk(2, dim=-1))
    k = torch.cat([block.image_k_norm(k[:, :num_image]), block.context_k_norm(k[:, num_image:])], dim=1)
    unrotated = angles.new_zeros(num_context, angles.shape[1])
    q, k = (rotate(part, torch.cat([angles, unrotated])) for part in (block.q_norm(q), k))
    keep = torch.cat([mask.new_ones(len(mask), num_image), mask], dim=1)
    sequence = sequence + block.out(attend(q, k, v, keep))
    sequence = sequence + block.ffn(block.ffn_norm(sequence))
    return sequence[:, :num_image]
