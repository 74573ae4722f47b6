from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from mos.model import execution
from mos.model.attention import attend, attend_packed, attend_padded, attend_with_context
from mos.model.context import ContextLayout

LENGTHS = [[3], [7, 1, 4], [1, 1], [2, 9, 5, 3, 1]]


def streams(lengths, img=5, heads=2, hdim=4, dtype=torch.float32, device="cpu"):
    """(q, k, v, context_k, context_v) that want gradients, and the layout."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(len(lengths), img, heads, hdim)] * 3 + [(sum(lengths), heads, hdim)] * 2
    leaves = [torch.randn(shape, generator=generator).to(device, dtype).requires_grad_() for shape in shapes]
    return leaves, ContextLayout.of(torch.tensor([0, *lengths]).cumsum(0)).to(device)


def one_by_one(q, k, v, context_k, context_v, layout):
    """Each sample on its own, in float64: what attention over [image | context] means."""
    outputs = []
    for b, (start, end) in enumerate(zip(layout.offsets[:-1].tolist(), layout.offsets[1:].tolist(), strict=True)):
        keys, values = (torch.cat(pair) for pair in ((k[b], context_k[start:end]), (v[b], context_v[start:end])))
        scores = torch.einsum("qhd,khd->hqk", q[b].double(), keys.double()) * q.shape[-1] ** -0.5
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values.double()).flatten(1))
    return torch.stack(outputs)


def variable_lengths(q, k, v, starts_q, starts_k, max_q, max_k):
    """`varlen_attn` for any device, sequence by sequence."""
    assert starts_q.dtype == starts_k.dtype == torch.int32
    assert max_q == starts_q.diff().max()
    assert max_k >= starts_k.diff().max()
    bounds = zip(starts_q[:-1], starts_q[1:], starts_k[:-1], starts_k[1:], strict=True)
    parts = [attend(q[None, a:b], k[None, c:d], v[None, c:d], None)[0] for a, b, c, d in bounds]
    return torch.cat(parts).view(q.shape)


def assert_same(way, lengths, tolerance, **options):
    outcomes = []
    for run in (way, one_by_one):
        leaves, layout = streams(lengths, **options)
        out = run(*leaves, layout)
        out.backward(torch.linspace(-1, 2, out.numel(), device=out.device).view(out.shape).to(out))
        outcomes.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for ours, exact in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours.double(), exact.double(), atol=tolerance, rtol=tolerance)


def test_attention_ignores_masked_keys():
    q, k, v = (torch.randn(2, 5, 3, 8) for _ in range(3))
    mask = torch.tensor([[True, True, False, False, True], [True] * 5])
    out = attend(q, k, v, mask)
    k2, v2 = k.clone(), v.clone()
    k2[0, 2:4], v2[0, 2:4] = 99.0, -99.0
    torch.testing.assert_close(attend(q, k2, v2, mask), out)


def test_explicit_attention_agrees_with_sdpa_forward_and_backward():
    mask = torch.arange(11) < torch.tensor([[11], [4]])
    results = []
    for dtype in (torch.bfloat16, torch.float32):  # bfloat16 on a CPU takes the explicit form
        generator = torch.Generator().manual_seed(0)
        q, k, v = (
            torch.randn(2, n, 3, 16, generator=generator).bfloat16().to(dtype).requires_grad_() for n in (7, 11, 11)
        )
        out = attend(q, k, v, mask)
        out.square().sum().backward()
        results.append([out, q.grad, k.grad, v.grad])
    for low, full in zip(*results, strict=True):
        torch.testing.assert_close(low.float(), full, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_padded_contexts_count_as_themselves(lengths, dtype):
    assert_same(attend_padded, lengths, 1e-5 if dtype == torch.float32 else 3e-2, dtype=dtype)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_packed_keys_and_values_belong_to_their_sample(monkeypatch, lengths):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", variable_lengths)
    assert_same(attend_packed, lengths, 1e-5)


def test_the_flash_kernel_takes_what_it_is_given():
    """No GPU is needed to know that types, shapes and options are those of torch's operator, forward and backward."""
    leaves, layout = streams([7, 1, 4], hdim=64, dtype=torch.bfloat16)
    with FakeTensorMode() as mode:
        leaves = [mode.from_tensor(leaf) for leaf in leaves]
        layout = ContextLayout(*(mode.from_tensor(part) for part in layout))
        out = attend_packed(*leaves, layout)
        assert out.shape == (3, 5, 128)
        out.sum().backward()
        assert all(leaf.grad.shape == leaf.shape for leaf in leaves)


@pytest.mark.usefixtures("without_shape_checks")
def test_packed_attention_is_one_graph_for_all_lengths():
    graphs = []

    def capture(graph, inputs):
        graphs.append(graph)
        return lambda *arguments: (torch.zeros(3, 5, 128),)

    compiled = torch.compile(attend_packed, fullgraph=True, dynamic=True, backend=capture)
    for lengths in ([7, 1, 4], [2, 9, 5]):
        leaves, layout = streams(lengths, hdim=64)
        with torch.no_grad():
            compiled(*leaves, layout)
    assert len(graphs) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_the_flash_kernel_agrees_on_a_gpu(lengths):
    assert_same(attend_with_context, lengths, 3e-2, hdim=64, dtype=torch.bfloat16, device="cuda")


class FlashCalls(TorchDispatchMode):
    """Counts forward passes of the kernel."""

    num = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num += func is torch.ops.torch_attn._varlen_attn.default
        return func(*args, **(kwargs or {}))


def test_checkpointing_keeps_what_the_flash_kernel_gave():
    leaves, layout = streams([7, 1, 4], hdim=64, dtype=torch.bfloat16)
    contexts = partial(create_selective_checkpoint_contexts, execution._policy)
    with FakeTensorMode() as mode, FlashCalls() as calls:
        leaves = [mode.from_tensor(leaf) for leaf in leaves]
        layout = ContextLayout(*(mode.from_tensor(part) for part in layout))
        checkpoint(attend_packed, *leaves, layout, use_reentrant=False, context_fn=contexts).sum().backward()
    assert calls.num == 1
