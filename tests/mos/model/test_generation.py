"""A block by itself: who sees whom, and what of the context reaches the image."""

import pytest
import torch
from torch import Tensor, nn

from mos.model.context import ContextLayout
from mos.model.generation import CrossAttentionBlock, GenerationBlock, MixtureOfTransformersBlock
from mos.model.layers import norm_and_rotate
from mos.model.rope import image_positions, rotary_angles

BLOCKS = (GenerationBlock, CrossAttentionBlock, MixtureOfTransformersBlock)
LENGTHS = (5, 1, 3)
DIM, STATE_DIM, HEADS = 24, 48, 2


def random_block(kind: type[nn.Module]) -> nn.Module:
    """A block in which nothing is zero."""
    generator = torch.Generator().manual_seed(0)
    block = kind(dim=DIM, num_heads=HEADS, ffn_dim=32, state_dim=STATE_DIM)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0.1, 0.4, generator=generator)
    return block


def random_inputs(*lengths: int) -> tuple[Tensor, Tensor, ContextLayout, Tensor]:
    """Images of 2 x 3 tokens beside contexts of these lengths."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(len(lengths), 6, DIM, generator=generator)
    mixed = torch.randn(sum(lengths), STATE_DIM, generator=generator)
    return image, mixed, ContextLayout.of(torch.tensor([0, *lengths]).cumsum(0)), angles_at(0)


def angles_at(shift: float) -> Tensor:
    return rotary_angles(image_positions(2, 3, torch.device("cpu")) + shift, DIM // HEADS)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_context_reaches_its_own_image_alone(kind):
    block, (image, mixed, layout, angles) = random_block(kind), random_inputs(*LENGTHS)
    other = mixed.clone()
    other[5] += 1  # the one token of the second sample
    change = (block(image, other, layout, angles) - block(image, mixed, layout, angles)).abs().amax(dim=(1, 2))
    assert change[1] > 1e-3
    assert change[[0, 2]].max() == 0


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_sample_comes_out_alone_as_in_company(kind):
    block, (image, mixed, layout, angles) = random_block(kind), random_inputs(*LENGTHS)
    alone = block(image[1:2], mixed[5:6], ContextLayout.of(torch.tensor([0, 1])), angles)
    torch.testing.assert_close(alone, block(image, mixed, layout, angles)[1:2])


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_order_of_context_tokens_does_not_matter(kind):
    """Their order is in the states already; here they have no positions."""
    block, (image, mixed, layout, angles) = random_block(kind), random_inputs(4)
    turned = block(image, mixed[[2, 0, 3, 1]], layout, angles)
    torch.testing.assert_close(turned, block(image, mixed, layout, angles))


@pytest.mark.parametrize("kind", BLOCKS)
def test_image_tokens_move_with_their_places(kind):
    block, (image, mixed, layout, angles) = random_block(kind), random_inputs(*LENGTHS)
    order = [3, 0, 5, 1, 4, 2]
    out = block(image, mixed, layout, angles)
    torch.testing.assert_close(block(image[:, order], mixed, layout, angles[order]), out[:, order])
    assert (block(image[:, order], mixed, layout, angles) - out[:, order]).abs().max() > 1e-3


def test_a_context_said_twice_weighs_more_beside_the_image_and_the_same_in_attention_of_its_own():
    image, mixed, layout, angles = random_inputs(3)
    twice = mixed.repeat(2, 1), ContextLayout.of(torch.tensor([0, 6]))
    crossing, joint = random_block(CrossAttentionBlock), random_block(GenerationBlock)
    torch.testing.assert_close(crossing(image, *twice, angles), crossing(image, mixed, layout, angles))
    assert (joint(image, *twice, angles) - joint(image, mixed, layout, angles)).abs().max() > 1e-3


def test_one_context_token_gives_every_image_token_its_value():
    """Softmax over one key is 1: whatever the queries are, cross-attention adds the token's projected value."""
    block, (image, mixed, layout, angles) = random_block(CrossAttentionBlock), random_inputs(1)
    with torch.no_grad():
        for silent in (block.out, block.ffn.down):
            silent.weight.zero_()
    value = block.cross_kv(block.context_norm(block.state_in(mixed)))[:, DIM:]
    expected = image + block.cross_out(value)
    torch.testing.assert_close(block(image, mixed, layout, angles), expected)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_whose_branches_are_silent_hands_the_image_on(kind):
    block, inputs = random_block(kind), random_inputs(*LENGTHS)
    with torch.no_grad():
        for name, module in block.named_modules():
            if name in ("out", "cross_out", "ffn.down"):
                module.weight.zero_()
    assert torch.equal(block(*inputs), inputs[0])


@pytest.mark.parametrize("kind", [GenerationBlock, CrossAttentionBlock])
def test_the_bias_of_the_projection_carries_the_size_of_the_sum(kind):
    """The norm behind it forgets the size of what has no bias to be compared with."""
    block, (image, mixed, layout, angles) = random_block(kind), random_inputs(*LENGTHS)
    assert (block(image, mixed / 2, layout, angles) - block(image, mixed, layout, angles)).abs().max() > 1e-2
    with torch.no_grad():
        block.state_in.bias.zero_()
    torch.testing.assert_close(
        block(image, mixed / 2, layout, angles), block(image, mixed, layout, angles), atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize(("kind", "lengths"), [(GenerationBlock, (0, 0)), (CrossAttentionBlock, LENGTHS)])
def test_image_tokens_see_how_far_apart_they_are_and_not_where(kind, lengths):
    """Beside a context, whose keys stand still, a joint attention would notice."""
    block, (image, mixed, layout, _) = random_block(kind), random_inputs(*lengths)
    here, there = (block(image, mixed, layout, angles_at(shift)) for shift in (0, 3))
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_weight_of_a_block_learns(kind):
    block, inputs = random_block(kind), random_inputs(*LENGTHS)
    block(*inputs).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in block.parameters())


def test_mixture_of_transformers_attends_to_the_towers_own_keys_and_values():
    block, (image, mixed, layout, angles) = random_block(MixtureOfTransformersBlock), random_inputs(4)
    with torch.no_grad():
        for silent in (block.kv, block.q):  # image keys and all queries are zero: every score is
            silent.weight.zero_()
        block.ffn.down.weight.zero_()
    values = mixed[:, STATE_DIM // 2 :].sum(0) / (4 + image.shape[1])
    torch.testing.assert_close(block(image, mixed, layout, angles), image + block.out(values))
    with torch.no_grad():
        block.q.weight.normal_(generator=torch.Generator().manual_seed(2))
    q = norm_and_rotate(block.q(block.image_norm(image)), block.q_norm, angles)
    keys, values = mixed.unflatten(1, (2, HEADS, -1)).unbind(1)
    scores = torch.einsum("bihd,chd->bhic", q, keys) * (STATE_DIM // 2 // HEADS) ** -0.5
    weights = torch.softmax(torch.nn.functional.pad(scores, (image.shape[1], 0)), dim=-1)[..., image.shape[1] :]
    expected = image + block.out(torch.einsum("bhic,chd->bihd", weights, values).flatten(2))
    torch.testing.assert_close(block(image, mixed, layout, angles), expected)
