"""What a CPU can show of the model's speed: state mixing and norms against the forms they replace, and drawing.

    python tests/benchmarks/cpu.py

One thread. Mixing, forward and backward, of 512 tokens of a tower of 12 layers of 768 for 12 blocks, larger than the
demo's 6 layers of 384: bags of picked rows against a stack of all layers times dense weights, which is how the sum over
layers is usually written. Memory is the peak of a fresh process each.

Drawing is one picture of the model that ships, with guidance. `cpu.draw.context` is the share of a step that mixing,
projection, keys and values of the context take: what reusing them between steps could save at most.
`cpu.draw.same_picks` is the share of the router's picks that are those of the step before.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

CLONE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CLONE))

from mos.checkpoints import SHAPES  # noqa: E402
from mos.kernels.mix_states import mix_states  # noqa: E402
from mos.kernels.rms_norm import rms_norm  # noqa: E402
from mos.model.mixing import mix_context  # noqa: E402
from mos.sampling.conditioning import context_of, encode_contexts  # noqa: E402
from mos.sampling.config import SamplerConfig  # noqa: E402
from mos.sampling.draw import draw_pictures, load_for_drawing  # noqa: E402
from mos.sampling.traced import draw_traced  # noqa: E402
from tests.benchmarks.harness import (  # noqa: E402
    Row,
    added_peak_mib,
    measure_interleaved,
    peak_in_fresh_process,
    write_results,
)

TOKENS, LAYERS, DIM, BLOCKS, TOP_K, REPEATS, DRAWN_STEPS = 512, 13, 768, 12, 2, 15, 50
"""A batch of 32 contexts of 16 tokens, of a tower of 12 layers of 768, for 12 generation blocks."""


def gather(states: tuple[Tensor, ...], index: Tensor, weights: Tensor) -> Tensor:
    """The model's mixing; states come as they are kept, one tensor token by token."""
    return mix_states(states[0], index, weights)


def stack_all_layers(states: tuple[Tensor, ...], index: Tensor, weights: Tensor) -> Tensor:
    """Stack the layers once; every block weighs all of them, zero where it picked none, and sums."""
    stacked = torch.stack(states, dim=1)
    dense = _dense(index, weights)
    return torch.stack([(dense[:, j, :, None] * stacked).sum(dim=1) for j in range(index.shape[1])])


def stack_and_multiply(states: tuple[Tensor, ...], index: Tensor, weights: Tensor) -> Tensor:
    """The same sums as one batched matrix product."""
    return torch.einsum("tbl,tld->btd", _dense(index, weights), torch.stack(states, dim=1))


def _dense(index: Tensor, weights: Tensor) -> Tensor:
    return weights.new_zeros(*index.shape[:2], LAYERS).scatter(2, index + 1, weights)


MIXES: dict[str, Callable[..., Tensor]] = {
    "gather": gather,
    "stack": stack_all_layers,
    "einsum": stack_and_multiply,
}


def build(name: str) -> tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor]:
    """States as the form takes them, picks, weights and the gradient of the output; equal numbers for both."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    states = torch.randn(TOKENS, LAYERS, DIM)
    index = torch.rand(TOKENS, BLOCKS, LAYERS - 1).topk(TOP_K).indices
    weights, grad = torch.rand(TOKENS, BLOCKS, TOP_K), torch.randn(BLOCKS, TOKENS, DIM)
    parts = (states,) if name == "gather" else tuple(layer.contiguous() for layer in states.unbind(1))
    return parts, index, weights.requires_grad_(), grad


def step(
    mix: Callable[..., Tensor], states: tuple[Tensor, ...], index: Tensor, weights: Tensor, grad: Tensor
) -> Tensor:
    """Output; the gradient of the weights stands in them."""
    weights.grad = None
    out = mix(states, index, weights)
    out.backward(grad)
    return out.detach()


def mixing_rows() -> list[Row]:
    """Time and peak memory of mixing, after a check that both forms agree."""
    inputs = {name: build(name) for name in MIXES}
    outs = [(step(MIXES[name], *inputs[name]), inputs[name][2].grad) for name in MIXES]
    for peer_outs in outs[1:]:
        for ours, theirs in zip(outs[0], peer_outs, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    seconds = measure_interleaved({name: partial(step, MIXES[name], *inputs[name]) for name in MIXES}, REPEATS)
    peaks = {name: peak_in_fresh_process("tests.benchmarks.cpu", name) for name in MIXES}
    rows = []
    for name, suffix, peer in (("stack", "", "stack of all layers"), ("einsum", ".einsum", "the same as one einsum")):
        ours, theirs = seconds["gather"] * 1e3, seconds[name] * 1e3
        rows.append(Row(f"cpu.mix.time{suffix}", ours, "ms", peer, theirs, theirs / ours, REPEATS))
        ours, theirs = peaks["gather"], peaks[name]
        rows.append(Row(f"cpu.mix.mem{suffix}", ours, "MiB peak", peer, theirs, theirs / ours))
    return rows


def norm_row() -> Row:
    """RMS norm of 2176 rows of 192 in bfloat16, forward and backward, against torch's."""
    torch.set_num_threads(1)
    x = torch.randn(2176, 192).bfloat16().requires_grad_()
    weight, grad = torch.ones(192).bfloat16().requires_grad_(), torch.randn(2176, 192).bfloat16()
    runs = {
        "ours": lambda: rms_norm(x, weight, 1e-6).backward(grad),
        "torch": lambda: functional.rms_norm(x, (192,), weight, 1e-6).backward(grad),
    }
    seconds = measure_interleaved(runs, 41)
    ours, peer = seconds["ours"] * 1e3, seconds["torch"] * 1e3
    return Row("cpu.norm.time", ours, "ms", "torch.nn.functional.rms_norm", peer, peer / ours, 41)


def drawing_rows() -> list[Row]:
    """Seconds of a picture, what of it the context takes, and how many picks stay from step to step."""
    torch.set_num_threads(1)
    pipe, sampler = load_for_drawing(SHAPES), SamplerConfig(steps=DRAWN_STEPS, guidance=3.5)
    model, prompt = pipe.transformer, "a red circle left of a blue square"
    states, _ = encode_contexts(pipe.tower, [prompt, ""], [None, None])
    context = context_of(states, torch.device("cpu"), torch.float32)
    side = pipe.resolution // pipe.codec.stride
    z = torch.randn(2, pipe.codec.channels, side, side, generator=torch.Generator().manual_seed(0))
    t = torch.full((2,), 0.5)
    with torch.inference_mode():
        routing = model.route(z, t, context)

        def context_alone() -> None:
            for block, mixed in zip(model.blocks, mix_context(context, routing), strict=True):
                block.kv(block.context_norm(block.state_in(mixed.to(z.dtype))))

        runs = {"step": lambda: model(z, t, context), "context": context_alone}
        seconds = measure_interleaved(runs, 41)
    drawn = measure_interleaved({"draw": lambda: draw_pictures(pipe, [prompt], sampler=sampler)}, 5)["draw"]
    picked = draw_traced(pipe, prompt, sampler).trace.picked
    same = (picked[1:] & picked[:-1]).sum() / picked[1:].sum()
    share = seconds["context"] / seconds["step"]
    return [
        Row("cpu.draw", drawn, f"s a picture of {pipe.resolution} px, {DRAWN_STEPS} steps", repeats=5),
        Row("cpu.draw.context", share, "of a step", repeats=41),
        Row("cpu.draw.same_picks", float(same), "of all picks"),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        inputs = build(sys.argv[2])
        print(added_peak_mib(lambda: step(MIXES[sys.argv[2]], *inputs)))
    else:
        write_results("cpu", [*mixing_rows(), norm_row(), *drawing_rows()])
