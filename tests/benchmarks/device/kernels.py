"""The kernels against the copy bandwidth, torch.compile, eager torch and, where installed, Liger-Kernel."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch._functorch.config
from torch import Tensor

from mos.kernels.mix_states import mix_states
from mos.kernels.mix_states import reference as mix_reference
from mos.kernels.rms_norm import norm_rope, rms_norm
from mos.kernels.rms_norm import reference as norm_reference
from mos.kernels.swiglu import reference as gate_reference
from mos.kernels.swiglu import swiglu
from mos.states.calibration import Calibration
from mos.states.packed import FormatName, PackedStates
from tests.benchmarks.device.run import Run
from tests.benchmarks.device.timing import Ceilings, gpu_ms
from tests.benchmarks.harness import Row

TOKENS, LAYERS, DIM, BLOCKS, TOP_K = 32 * 200, 33, 4096, 32, 2
"""A batch of mos_s: 32 contexts of 200 tokens, 32 layers and the embedding, for 32 blocks."""
NORM_SHAPES = tuple((rows, dim) for rows in (32768, 4096, 131072) for dim in (2560, 1920, 3072, 4096))
GATE_SHAPES = tuple((rows, hidden) for rows in (8192, 2048, 32768) for hidden in (7168, 4864, 8448, 14336))
"""Twelve each: mos_s, router, mos_l and tower widths; the first gives the share of bandwidth."""


def mixing(run: Run, ceilings: Ceilings) -> None:
    """The marks: mix.bf16, mix.eager, mix.compile, mix.int4."""
    run.measure("mix.bf16", 20, lambda: _dense_rows(ceilings))
    run.measure("mix.compile", 40, _compiled_rows)
    run.measure("mix.int4", 20, lambda: _packed_rows("int4", DIM // 2 + DIM // 32, ceilings))


def more_mixing(run: Run, ceilings: Ceilings) -> None:
    """mix.int8 and mix.bwd."""
    run.measure("mix.int8", 20, lambda: _packed_rows("int8", DIM + DIM // 64, ceilings))
    run.measure("mix.bwd", 20, lambda: _backward_rows(ceilings))


@dataclass(frozen=True)
class Picks:
    """What a router might send."""

    index: Tensor
    weights: Tensor
    used: int
    """Rows that some block picked."""

    @property
    def out_bytes(self) -> int:
        """Of the mixed states of all blocks."""
        return TOKENS * BLOCKS * DIM * 2


def _picks() -> Picks:
    torch.manual_seed(0)
    index = torch.rand(TOKENS, BLOCKS, LAYERS - 1, device="cuda").topk(TOP_K).indices
    picked = torch.zeros(TOKENS, LAYERS, dtype=torch.bool, device="cuda").scatter_(1, (index + 1).flatten(1), True)
    return Picks(index, torch.rand(TOKENS, BLOCKS, TOP_K, device="cuda"), int(picked.sum()))


def _states() -> Tensor:
    return torch.randn(TOKENS, LAYERS, DIM, device="cuda", dtype=torch.bfloat16)


def _dense_rows(ceilings: Ceilings) -> Iterator[Row]:
    picks, states = _picks(), _states()
    arguments = (states, picks.index, picks.weights)
    torch.testing.assert_close(mix_states(*arguments), mix_reference.mix_states(*arguments), atol=0.06, rtol=0.02)
    ours = gpu_ms({"ours": partial(mix_states, *arguments)})["ours"]
    yield _share("mix.bf16", ours, picks.used * DIM * 2 + picks.out_bytes, ceilings)
    yield _against("mix.eager", "eager gather and sum", mix_reference.mix_states, arguments)


def _compiled_rows() -> Iterator[Row]:
    picks = _picks()
    arguments = (_states(), picks.index, picks.weights)
    yield _against("mix.compile", "torch.compile of it", _compiled(mix_reference.mix_states), arguments)


def _against(id: str, name: str, peer: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> Row:
    ms = gpu_ms({"ours": partial(mix_states, *arguments), "peer": partial(peer, *arguments)})
    return Row(id, ms["ours"], "ms", name, ms["peer"], ms["peer"] / ms["ours"], 15)


def _packed_rows(format: FormatName, row_bytes: int, ceilings: Ceilings) -> Iterator[Row]:
    picks, packed = _picks(), random_packed(format)
    ms = gpu_ms({"ours": partial(mix_states, packed, picks.index, picks.weights)})["ours"]
    yield _share(f"mix.{format}", ms, picks.used * (row_bytes + 2) + picks.out_bytes, ceilings)


def _backward_rows(ceilings: Ceilings) -> Iterator[Row]:
    picks = _picks()
    leaf = picks.weights.requires_grad_()
    out = mix_states(_states(), picks.index, leaf)
    grad = torch.randn_like(out)
    ms = gpu_ms({"ours": lambda: torch.autograd.grad(out, leaf, grad, retain_graph=True)})["ours"]
    yield _share("mix.bwd", ms, picks.used * DIM * 2 + picks.out_bytes, ceilings)


def random_packed(format: FormatName) -> PackedStates:
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


@dataclass(frozen=True)
class Candidate:
    """One way to do it, on inputs of its own."""

    run: Callable[[], Tensor]
    leaves: tuple[Tensor, ...]
    """What gets gradients."""


@dataclass(frozen=True)
class Sweep:
    """An operation at many shapes, the one that gives the share of bandwidth first."""

    op: str
    shapes: tuple[tuple[int, int], ...]
    passes: tuple[int, int]
    """Bytes moved per value of the result, forward and backward."""
    case: Callable[[int, int], dict[str, Candidate]]
    """`ours` and its peers at a shape."""


def sweep_main(run: Run, sweep: Sweep, ceilings: Ceilings) -> None:
    """Share of bandwidth, and the ratio to each peer, at the main shape."""
    if not _has_liger():
        run.skip(f"{sweep.op}.*.liger", "liger-kernel is not installed")
    _measure_shape(run, sweep, sweep.shapes[0], ceilings)


def sweep_others(run: Run, sweep: Sweep) -> None:
    """The other shapes: of the ratios to a peer the least favourable one is kept."""
    for shape in sweep.shapes[1:]:
        _measure_shape(run, sweep, shape, None)


def norm_rope_case(run: Run, ceilings: Ceilings) -> None:
    """Q/K norm with rotation at the image stream's shape."""
    run.measure("norm_rope", 20, lambda: _norm_rope_rows(run, ceilings))


def _measure_shape(run: Run, sweep: Sweep, shape: tuple[int, int], ceilings: Ceilings | None) -> None:
    run.measure(f"{sweep.op} {shape}", 20, lambda: _shape_rows(run, sweep, shape, ceilings))


def _shape_rows(run: Run, sweep: Sweep, shape: tuple[int, int], ceilings: Ceilings | None) -> Iterator[Row]:
    ms = _both(_working(run, f"{sweep.op} {shape}", sweep.case(*shape)))
    for direction, moved in zip(("fwd", "bwd"), sweep.passes, strict=True):
        ours = ms["ours"][direction]
        if ceilings is not None:
            yield _share(f"{sweep.op}.{direction}", ours, shape[0] * shape[1] * moved, ceilings)
        for peer in ms.keys() - {"ours"}:
            theirs = ms[peer][direction]
            ratio, id = theirs / ours, f"{sweep.op}.{direction}.{peer}"
            worst = run.rows.get(id)
            if worst is None or worst.ratio is None or ratio < worst.ratio:
                yield Row(id, ours, "ms", f"{peer} at {shape}", theirs, ratio, 15)


def _norm_rope_rows(run: Run, ceilings: Ceilings) -> Iterator[Row]:
    x = torch.randn(16, 1028, 2, 20, 128, device="cuda", dtype=torch.bfloat16)[:, :, 0].requires_grad_()
    weight = torch.rand(128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    inputs, leaves = (x, weight, torch.rand(1028, 64, device="cuda"), 1e-6), (x, weight)
    candidates = {
        "ours": Candidate(partial(norm_rope, *inputs), leaves),
        "compile": Candidate(partial(_compiled(norm_reference.norm_rope), *inputs), leaves),
    }
    ms = _both(_working(run, "norm_rope", candidates))
    for direction, passes in (("fwd", 4), ("bwd", 6)):
        mine = ms["ours"][direction]
        yield _share(f"norm_rope.{direction}", mine, x.numel() * passes, ceilings)
        if "compile" in ms:
            theirs = ms["compile"][direction]
            yield Row(f"norm_rope.{direction}.compile", mine, "ms", "torch.compile", theirs, theirs / mine, 15)


def _norm_case(num_rows: int, dim: int) -> dict[str, Candidate]:
    x = torch.randn(num_rows, dim, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = torch.rand(dim, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    ways = {"ours": rms_norm, "compile": _compiled(norm_reference.rms_norm)}
    if _has_liger():
        ways["liger"] = _liger_norm
    return {name: Candidate(partial(way, x, weight, 1e-6), (x, weight)) for name, way in ways.items()}


def _gate_case(num_rows: int, hidden: int) -> dict[str, Candidate]:
    joint = torch.randn(num_rows, 2 * hidden, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    ways = {"ours": swiglu, "compile": _compiled(gate_reference.swiglu), "eager": gate_reference.swiglu}
    candidates = {name: Candidate(partial(way, joint), (joint,)) for name, way in ways.items()}
    if _has_liger():  # takes two tensors, as two projections write them
        halves = tuple(half.detach().contiguous().requires_grad_() for half in joint.chunk(2, dim=-1))
        candidates["liger"] = Candidate(partial(_liger_gate, *halves), halves)
    return candidates


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.compile at its best: for this shape alone; every measurement starts with empty caches."""
    # Buffers given up in the backward pass forbid to repeat it, which is how it is timed.
    torch._functorch.config.donated_buffer = False
    compiled: Callable[..., Tensor] = torch.compile(function, dynamic=False)
    return compiled


def _has_liger() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


def _liger_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    out: Tensor = LigerRMSNormFunction.apply(x, weight, eps)
    return out


def _liger_gate(gate: Tensor, up: Tensor) -> Tensor:
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    out: Tensor = LigerSiLUMulFunction.apply(gate, up)
    return out


def _there_and_back(candidate: Candidate) -> None:
    out = candidate.run()
    torch.autograd.grad(out, candidate.leaves, torch.ones_like(out))


def _working(run: Run, what: str, candidates: dict[str, Candidate]) -> dict[str, Candidate]:
    """Without the peers that fail, which are noted; ours has to work."""
    working = {"ours": candidates["ours"]}

    def keep(name: str) -> None:
        _there_and_back(candidates[name])
        working[name] = candidates[name]

    for name in candidates.keys() - {"ours"}:
        run.attempt(f"{what} of {name}", partial(keep, name))
    return working


def _both(candidates: dict[str, Candidate]) -> dict[str, dict[str, float]]:
    """Milliseconds of `fwd` and `bwd` of each; gradients are its own, since Liger writes into them."""
    forward = gpu_ms({name: candidate.run for name, candidate in candidates.items()})
    passes = {}
    for name, candidate in candidates.items():
        out = candidate.run()
        grad = torch.randn_like(out)
        passes[name] = partial(torch.autograd.grad, out, candidate.leaves, grad, retain_graph=True)
    backward = gpu_ms(passes)
    return {name: {"fwd": forward[name], "bwd": backward[name]} for name in candidates}


NORM = Sweep("norm", NORM_SHAPES, (4, 6), _norm_case)
GATE = Sweep("swiglu", GATE_SHAPES, (6, 10), _gate_case)


def _share(id: str, ms: float, moved_bytes: float, ceilings: Ceilings) -> Row:
    """Compulsory bytes a second as a share of a copy's."""
    rate = moved_bytes / ms * 1e3
    return Row(id, rate / 1e12, "TB/s", "copy of 4 GB", ceilings.copy / 1e12, rate / ceilings.copy, 15)
