"""The kernels against the copy bandwidth, torch.compile, eager torch and, where installed, Liger-Kernel."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mos.kernels.mix_states import mix_states
from mos.kernels.mix_states import reference as mix_reference
from mos.kernels.rms_norm import norm_rope, rms_norm
from mos.kernels.rms_norm import reference as norm_reference
from mos.kernels.swiglu import reference as gate_reference
from mos.kernels.swiglu import swiglu
from mos.states.calibration import Calibration
from mos.states.packed import PackedStates
from tests.benchmarks.device.timing import Budget, Ceilings, gpu_ms
from tests.benchmarks.harness import Row

TOKENS, LAYERS, DIM, BLOCKS, TOP_K = 32 * 200, 33, 4096, 32, 2
"""A batch of mos_s: 32 contexts of 200 tokens, 32 layers and the embedding, for 32 blocks."""
NORM_SHAPES = [(rows, dim) for rows in (4096, 32768, 131072) for dim in (1920, 2560, 3072, 4096)]
GATE_SHAPES = [(rows, hidden) for rows in (2048, 8192, 32768) for hidden in (4864, 7168, 8448, 14336)]
"""Twelve each: router, mos_s, mos_l and tower widths; the first with 7168 or 2560 gives the share of bandwidth."""


def mixing_rows(ceilings: Ceilings) -> list[Row]:
    """mix.bf16, mix.int4, mix.eager, mix.compile and the backward pass."""
    torch.manual_seed(0)
    index = torch.rand(TOKENS, BLOCKS, LAYERS - 1, device="cuda").topk(TOP_K).indices
    weights = torch.rand(TOKENS, BLOCKS, TOP_K, device="cuda")
    picked = torch.zeros(TOKENS, LAYERS, dtype=torch.bool, device="cuda").scatter_(1, (index + 1).flatten(1), True)
    out_bytes, used = TOKENS * BLOCKS * DIM * 2, int(picked.sum())
    states = torch.randn(TOKENS, LAYERS, DIM, device="cuda", dtype=torch.bfloat16)
    compiled = torch.compile(mix_reference.mix_states)
    torch.testing.assert_close(
        mix_states(states, index, weights), mix_reference.mix_states(states, index, weights), atol=0.06, rtol=0.02
    )
    ms = gpu_ms(
        {
            "ours": lambda: mix_states(states, index, weights),
            "eager": lambda: mix_reference.mix_states(states, index, weights),
            "compile": lambda: compiled(states, index, weights),
        }
    )
    leaf = weights.clone().requires_grad_()
    out = mix_states(states, index, leaf)
    grad = torch.randn_like(out)
    backward = gpu_ms({"ours": lambda: torch.autograd.grad(out, leaf, grad, retain_graph=True)})["ours"]
    bytes_bf16 = used * DIM * 2 + out_bytes
    rows = [
        _share("mix.bf16", ms["ours"], bytes_bf16, ceilings),
        _share("mix.bwd", backward, bytes_bf16, ceilings),
        Row("mix.eager", ms["ours"], "ms", "eager gather and sum", ms["eager"], ms["eager"] / ms["ours"], 15),
        Row("mix.compile", ms["ours"], "ms", "torch.compile of it", ms["compile"], ms["compile"] / ms["ours"], 15),
    ]
    del states, out, grad
    for format, row_bytes in (("int8", DIM + DIM // 64), ("int4", DIM // 2 + DIM // 32)):
        packed = random_packed(format)
        quantised = gpu_ms({"ours": partial(mix_states, packed, index, weights)})["ours"]
        rows.append(_share(f"mix.{format}", quantised, used * (row_bytes + 2) + out_bytes, ceilings))
        del packed
    return rows


def random_packed(format: Any) -> PackedStates:
    """Random codes and steps near 1, one massive channel a layer: what is timed does not depend on the values."""
    shape = (TOKENS, LAYERS, DIM if format == "int8" else DIM // 2)
    codes = torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")
    scales = torch.randint(110, 130, (TOKENS, LAYERS, DIM // (64 if format == "int8" else 32)), device="cuda")
    calibration = Calibration(
        torch.randn(LAYERS, DIM, device="cuda", dtype=torch.bfloat16),
        torch.rand(LAYERS, DIM, device="cuda", dtype=torch.bfloat16),
        torch.randint(0, DIM, (LAYERS, 1), device="cuda", dtype=torch.int32),
    )
    massive = torch.randn(TOKENS, LAYERS, 1, device="cuda", dtype=torch.bfloat16)
    offsets = torch.arange(0, TOKENS + 1, 200, device="cuda")
    codes = codes.view(torch.int8) if format == "int8" else codes
    return PackedStates(format, offsets, codes, scales.to(torch.uint8), massive, calibration)


def norm_rows(ceilings: Ceilings, budget: Budget) -> list[Row]:
    """norm.* at twelve shapes, and Q/K norm with rotation."""
    rows = _sweep("norm", NORM_SHAPES, _norm_case, (4, 6), (32768, 2560), ceilings, budget)
    x = torch.randn(16, 1228, 2, 20, 128, device="cuda", dtype=torch.bfloat16)[:, :, 0].requires_grad_()
    weight, tail = (torch.rand(128, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    inputs = (x, weight, tail, torch.rand(1028, 64, device="cuda"), 1e-6)
    ours, peer = norm_rope, torch.compile(norm_reference.norm_rope)
    ms = _both({"ours": ours, "compile": peer}, inputs, (x, weight, tail))
    for name, passes in (("fwd", 4), ("bwd", 6)):
        mine, theirs = ms[f"ours.{name}"], ms[f"compile.{name}"]
        rows.append(_share(f"norm_rope.{name}", mine, x.numel() * passes, ceilings))
        rows.append(Row(f"norm_rope.{name}.compile", mine, "ms", "torch.compile", theirs, theirs / mine, 15))
    return rows


def gate_rows(ceilings: Ceilings, budget: Budget) -> list[Row]:
    """swiglu.* at twelve shapes."""
    return _sweep("swiglu", GATE_SHAPES, _gate_case, (6, 10), (8192, 7168), ceilings, budget)


def _sweep(
    op: str,
    shapes: list[tuple[int, int]],
    case: Callable[..., tuple[dict[str, Callable[..., Tensor]], tuple[Any, ...], tuple[Tensor, ...]]],
    passes: tuple[int, int],
    main: tuple[int, int],
    ceilings: Ceilings,
    budget: Budget,
) -> list[Row]:
    """Share of bandwidth at the main shape; the least favourable ratio to each peer over all shapes.

    Args:
        passes: bytes moved per value of the result, forward and backward.
    """
    rows, worst = [], {}
    for shape in shapes:
        if not budget.allows(f"{op} {shape}", 20):
            continue
        candidates, inputs, leaves = case(*shape)
        ms = _both(candidates, inputs, leaves)
        for direction, moved in zip(("fwd", "bwd"), passes, strict=True):
            ours = ms[f"ours.{direction}"]
            if shape == main:
                rows.append(_share(f"{op}.{direction}", ours, shape[0] * shape[1] * moved, ceilings))
            for peer in candidates.keys() - {"ours"}:
                theirs = ms[f"{peer}.{direction}"]
                found = Row(f"{op}.{direction}.{peer}", ours, "ms", f"{peer} at {shape}", theirs, theirs / ours, 15)
                worst[direction, peer] = min(worst.get((direction, peer), found), found, key=lambda row: row.ratio or 0)
    return rows + list(worst.values())


def _norm_case(num_rows: int, dim: int) -> Any:
    x = torch.randn(num_rows, dim, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = torch.rand(dim, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    candidates = {"ours": rms_norm, "compile": torch.compile(norm_reference.rms_norm)} | _liger_norm()
    return candidates, (x, weight, 1e-6), (x, weight)


def _gate_case(num_rows: int, hidden: int) -> Any:
    gate_up = torch.randn(num_rows, 2 * hidden, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    candidates = {"ours": swiglu, "compile": torch.compile(gate_reference.swiglu), "eager": gate_reference.swiglu}
    return candidates | _liger_gate(), (gate_up,), (gate_up,)


def _liger_norm() -> dict[str, Callable[..., Tensor]]:
    try:
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    except ImportError:
        return {}
    return {"liger": lambda x, weight, eps: LigerRMSNormFunction.apply(x, weight, eps)}


def _liger_gate() -> dict[str, Callable[..., Tensor]]:
    try:
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction
    except ImportError:
        return {}
    return {"liger": lambda gate_up: LigerSiLUMulFunction.apply(*(half.contiguous() for half in gate_up.chunk(2, -1)))}


def _both(
    candidates: dict[str, Callable[..., Tensor]], inputs: tuple[Any, ...], leaves: tuple[Tensor, ...]
) -> dict[str, float]:
    """Milliseconds of `<name>.fwd` and `<name>.bwd`."""
    outs = {name: run(*inputs) for name, run in candidates.items()}
    grad = torch.randn_like(outs["ours"])
    forward = gpu_ms({f"{name}.fwd": partial(run, *inputs) for name, run in candidates.items()})
    backward = {
        f"{name}.bwd": partial(torch.autograd.grad, out, leaves, grad, retain_graph=True) for name, out in outs.items()
    }
    return forward | gpu_ms(backward)


def _share(id: str, ms: float, moved_bytes: float, ceilings: Ceilings) -> Row:
    """Compulsory bytes a second as a share of a copy's."""
    rate = moved_bytes / ms * 1e3
    return Row(id, rate / 1e12, "TB/s", "copy of 4 GB", ceilings.copy / 1e12, rate / ceilings.copy, 15)


def attention_rows() -> list[Row]:
    """Image tokens over [image | context] of unequal contexts: what could serve, of which the model uses the mask.

    Milliseconds forward and backward of 16 samples at 1024 px with 20 to 200 context tokens each.
    """
    batch, image, heads, hdim = 16, 1028, 20, 128
    lengths = torch.linspace(20, 200, batch).int().tolist()
    longest = image + max(lengths)
    q, k, v = (
        torch.randn(batch, n, heads, hdim, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for n in (image, longest, longest)
    )
    mask = torch.arange(longest, device="cuda") < torch.tensor(lengths, device="cuda")[:, None] + image
    runs: dict[str, Callable[[], Tensor]] = {
        "mask": partial(_sdpa, q, k, v, mask),
        "padding": partial(_sdpa, q, k, v, None),
        "flex": _flex(q, k, v, mask),
    }
    varlen = _varlen(q, k, v, lengths)
    if varlen is not None:
        runs["varlen"] = varlen
    runs = {name: partial(_there_and_back, run, (q, k, v)) for name, run in runs.items()}
    ms = gpu_ms(runs)
    return [
        Row(f"attention.{name}", value, "ms", "SDPA with a mask", ms["mask"], ms["mask"] / value, 15)
        for name, value in ms.items()
    ]


def _there_and_back(run: Callable[[], Tensor], leaves: tuple[Tensor, ...]) -> None:
    out = run()
    torch.autograd.grad(out, leaves, torch.ones_like(out))


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    keep = None if mask is None else mask[:, None, None]
    heads = (part.transpose(1, 2) for part in (q, k, v))
    return functional.scaled_dot_product_attention(*heads, attn_mask=keep)


def _flex(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Callable[[], Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def real(sample: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return mask[sample, key]

    blocks = create_block_mask(real, len(mask), None, q.shape[1], k.shape[1], device="cuda")
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(*(part.transpose(1, 2) for part in (q, k, v)), block_mask=blocks)


def _varlen(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Callable[[], Tensor] | None:
    """Keys and values without padding; packing them is timed too."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    image = q.shape[1]
    starts = torch.tensor([0, *(image + n for n in lengths)], device="cuda").cumsum(0).int()
    queries = torch.arange(0, len(q) * image + 1, image, device="cuda", dtype=torch.int32)
    rows = torch.cat([torch.arange(image + n, device="cuda") + b * k.shape[1] for b, n in enumerate(lengths)])

    def run() -> Tensor:
        packed = (part.flatten(0, 1)[rows] for part in (k, v))
        return varlen_attn(q.flatten(0, 1), *packed, queries, starts, image, k.shape[1])

    return run
