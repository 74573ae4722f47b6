import pytest
import torch

from mos.kernels.swiglu import reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(1, 2), (3, 5, 14), (2, 1, 200), (2, 2100)], ids=str)
def test_triton_agrees_with_the_reference(shape, dtype, device):
    from mos.kernels.swiglu.triton import swiglu

    generator = torch.Generator().manual_seed(0)
    gate_up = (2 * torch.randn(shape, generator=generator)).to(device, dtype)
    results = []
    for function, leaf in ((swiglu, gate_up.clone()), (reference.swiglu, gate_up.double())):
        leaf.requires_grad_()
        out = function(leaf)
        out.backward(torch.linspace(-1, 2, out.numel(), device=device).view(out.shape).to(out))
        results.append((out.detach(), leaf.grad))
    for ours, exact in zip(*results, strict=True):
        assert ours.isfinite().all()
        # bf16: two roundings, which the interpreter does by truncation
        torch.testing.assert_close(ours.double(), exact, rtol=2e-6 if dtype == torch.float32 else 2**-6, atol=1e-6)
