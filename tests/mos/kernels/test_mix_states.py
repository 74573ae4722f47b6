import pytest
import torch

from mos.kernels import mix_states as public
from mos.kernels.mix_states.plain import mix_dense, mix_packed
from mos.kernels.mix_states.reference import mix_states as reference
from mos.states.calibration import Calibration
from mos.states.packed import PackedStates
from mos.states.quantise import dequantise, quantise

SHAPES = [(1, 2, 1, 1, 32), (7, 6, 3, 2, 40), (5, 18, 17, 3, 200), (3, 34, 2, 2, 128)]
"""(token, layers, block, k, dim): one block, odd sizes, more than one tile of blocks, layers and channels."""


BF16 = 2**-7


def draw(shape, dtype, device):
    tokens, layers, blocks, k, dim = shape
    generator = torch.Generator().manual_seed(sum(shape))
    states = torch.randn(tokens, layers, dim, generator=generator).to(dtype)
    index = torch.rand(tokens, blocks, layers - 1, generator=generator).topk(k).indices
    weights = torch.rand(tokens, blocks, k, generator=generator)
    grad = torch.randn(blocks, tokens, dim, generator=generator)
    return [part.to(device) for part in (states, index, weights, grad)]


def draw_packed(shape, format, massive, device):
    states, index, weights, grad = draw(shape, torch.bfloat16, device)
    num_layers, dim = states.shape[1:]
    generator = torch.Generator().manual_seed(7)
    states[:, :, 3] *= 50  # one channel that all layers keep aside where any is
    mean = torch.randn(num_layers, dim, generator=generator).bfloat16()
    std = (0.5 + torch.rand(num_layers, dim, generator=generator)).bfloat16()
    channels = torch.tensor([3, dim - 1])[:massive].int().expand(num_layers, -1).contiguous()
    calibration = Calibration(mean, std, channels).to(device)
    return quantise(states, calibration, format), index, weights, grad


def run(mix, states, index, weights, grad):
    """The mixture and the gradient of the weights."""
    leaf = weights.clone().requires_grad_()
    out = mix(states, index, leaf)
    out.backward(grad.to(out.dtype))
    return out.detach(), leaf.grad


def triton_mix(states, index, weights):
    from mos.kernels.mix_states.triton import mix_states

    packed = states if isinstance(states, PackedStates) else PackedStates("bf16", index.new_empty(0), states)
    return mix_states(packed, index, weights)


def assert_same(got, wanted, tolerance):
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.isfinite().all()
        error = (ours.double() - theirs.double()).norm() / theirs.double().norm()
        assert error < tolerance, error


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_plain_agrees_with_the_reference(shape):
    inputs = draw(shape, torch.float32, "cpu")
    assert_same(run(mix_dense, *inputs), run(reference, *inputs), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_triton_agrees_with_the_reference(shape, dtype, device):
    inputs = draw(shape, dtype, device)
    exact = run(reference, inputs[0].double(), *inputs[1:])
    # bf16 rounds the output and, on tensor cores, the weights; the interpreter truncates to bf16: 2^-8
    assert_same(run(triton_mix, *inputs), exact, 1e-6 if dtype == torch.float32 else BF16)


@pytest.mark.parametrize("massive", [0, 2])
@pytest.mark.parametrize("format", ["int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_quantised_states_mix_as_their_dequantised_selves(shape, format, massive, device):
    packed, index, weights, grad = draw_packed(shape, format, massive, device)
    exact = run(reference, dequantise(packed).double(), index, weights, grad)
    assert_same(run(mix_packed, packed, index, weights, grad), exact, BF16)
    assert_same(run(triton_mix, packed, index, weights, grad), exact, BF16)


def test_many_tokens_are_dequantised_in_slices():
    packed, index, weights, grad = draw_packed((150, 4, 2, 2, 64), "int8", 1, "cpu")
    exact = run(reference, dequantise(packed), index, weights, grad)
    assert_same(run(mix_packed, packed, index, weights, grad), exact, BF16)


def test_rows_that_nothing_picks_are_not_read(device):
    states, index, weights, grad = draw((4, 6, 2, 2, 32), torch.float32, device)
    unpicked = torch.ones(4, 6, dtype=torch.bool, device=device)
    unpicked.scatter_(1, (index + 1).flatten(1), False)
    clean = run(triton_mix, states, index, weights, grad)
    states[unpicked] = float("nan")
    assert_same(run(triton_mix, states, index, weights, grad), clean, 1e-9)


def test_public_function_takes_dense_and_packed_states():
    states, index, weights, _ = draw((3, 5, 2, 2, 64), torch.bfloat16, "cpu")
    packed = PackedStates("bf16", torch.tensor([0, 1, 3]), states)
    assert torch.equal(public.mix_states(states, index, weights), public.mix_states(packed, index, weights))
