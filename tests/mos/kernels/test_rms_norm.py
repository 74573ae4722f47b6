import pytest
import torch

from mos.kernels.rms_norm import plain, reference

EPS = 1e-6
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2**-7}  # the interpreter truncates to bf16: 2^-8 each way
NORM_SHAPES = [(1, 1), (5, 3), (3, 2, 48), (2, 3, 1, 100), (2, 2560), (3, 4100)]
ROPE_SHAPES = [(1, 1, 1, 2), (2, 5, 3, 8), (3, 4, 15, 12), (1, 7, 5, 32), (2, 3, 20, 128)]
"""(batch, seq, heads, hdim)."""


@pytest.fixture(params=["plain", "triton"])
def path(request):
    """The module under test and its device."""
    if request.param == "plain":
        return plain, "cpu"
    _, triton = request.getfixturevalue("device"), pytest.importorskip("mos.kernels.rms_norm.triton")
    return triton, request.getfixturevalue("device")


def assert_same(function, exact_function, inputs, num_leaves, tolerance):
    """Output and every gradient against the reference in float64."""
    outcomes = []
    for run, wide in ((function, False), (exact_function, True)):
        leaves = [(x.double() if wide else x).detach().requires_grad_() for x in inputs[:num_leaves]]
        out = run(*leaves, *inputs[num_leaves:])
        out.backward(torch.linspace(-1, 2, out.numel(), device=out.device, dtype=torch.float64).view(out.shape).to(out))
        outcomes.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*outcomes, strict=True):
        assert ours.isfinite().all()
        error = (ours.double() - theirs).norm() / (theirs.norm() + 1e-12)
        assert error < tolerance or (ours.double() - theirs).abs().max() < 1e-7, error


@DTYPES
@pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)
def test_rms_norm_agrees_with_the_reference(path, shape, dtype):
    module, device = path
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(shape, generator=generator)).to(device, dtype)
    weight = (1 + 0.3 * torch.randn(shape[-1], generator=generator)).to(device, dtype)
    assert_same(module.rms_norm, reference.rms_norm, (x, weight, EPS), 2, TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize("shape", ROPE_SHAPES, ids=str)
def test_norm_rope_agrees_with_the_reference(path, shape, dtype):
    module, device = path
    batch, seq, heads, hdim = shape
    generator = torch.Generator().manual_seed(0)
    # keys are one half of a joint projection, so their rows do not follow each other
    joint = torch.randn(batch, seq, 2, heads, hdim, generator=generator).to(device, dtype)
    weight = (1 + 0.3 * torch.randn(hdim, generator=generator)).to(device, dtype)
    angles = 9 * torch.randn(seq, hdim // 2, generator=generator).to(device)
    inputs = (joint[:, :, 0], weight, angles, EPS)
    assert_same(module.norm_rope, reference.norm_rope, inputs, 2, TOLERANCE[dtype])


@DTYPES
def test_gradients_of_attention_arrive_transposed(path, dtype):
    module, device = path
    x = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    weight, angles = torch.ones(8, device=device, dtype=dtype), torch.rand(3, 4, device=device)
    grads = []
    for flow in (torch.randn_like(x.transpose(1, 2).contiguous()).transpose(1, 2),):
        for layout in (flow, flow.contiguous()):
            leaf = x.clone().requires_grad_()
            module.norm_rope(leaf, weight, angles, EPS).backward(layout)
            grads.append(leaf.grad)
    assert torch.equal(*grads)
