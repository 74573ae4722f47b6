"""What the model saves by giving context tokens keys and values only: time and memory of a training step.

    python -m tests.benchmarks.model

K/V-only (`MoS.forward`) against the literal full concatenation, forward and backward, float32 on the CPU, 256 image
and 200 context tokens: the step of a 512 px image. Peak memory is that of a fresh process each.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mos.flow.loss import velocity_loss
from mos.model.context import Context
from mos.model.full_concatenation import full_concatenation_forward
from mos.model.fusion import RoutedFusion
from mos.model.mos import ModelConfig, MoS
from mos.model.router import RouterConfig
from tests.benchmarks.harness import (
    Row,
    added_peak_mib,
    measure_interleaved,
    peak_in_fresh_process,
    write_results,
)

FORWARDS: dict[str, Callable[..., Tensor]] = {"kv_only": MoS.forward, "full": full_concatenation_forward}
CONFIG = ModelConfig(
    latent_channels=48,
    patch=2,
    state_dim=768,
    state_layers=12,
    dim=768,
    num_blocks=6,
    num_heads=12,
    ffn_dim=2048,
    fusion=RoutedFusion(router=RouterConfig(dim=192, num_heads=4, ffn_dim=512)),
)
"""The proportions of the full-size blocks (feed-forward 2.7 x width) at a width that a CPU steps in a second."""
BATCH, CONTEXT_TOKENS, LATENT_SIDE, REPEATS = 4, 200, 32, 7


def step(forward: Callable[..., Tensor], model: MoS, latents: Tensor, timestep: Tensor, context: Context) -> None:
    """One forward and backward pass."""
    loss = velocity_loss(forward(model, latents, timestep, context), latents).mean()
    loss.backward()
    model.zero_grad()


def build() -> tuple[MoS, Tensor, Tensor, Context]:
    """Model and inputs, the same in every process."""
    torch.manual_seed(0)
    model = MoS(CONFIG)
    model.init_weights()
    states = torch.randn(BATCH, CONTEXT_TOKENS, CONFIG.state_layers + 1, CONFIG.state_dim)
    context = Context.of(list(states))
    latents = torch.randn(BATCH, CONFIG.latent_channels, LATENT_SIDE, LATENT_SIDE)
    return model, latents, torch.rand(BATCH), context


def kv_only_rows() -> list[Row]:
    """The two figures of `model.kv_only`."""
    inputs = build()
    seconds = measure_interleaved({name: partial(step, run, *inputs) for name, run in FORWARDS.items()}, REPEATS)
    fast, full = seconds["kv_only"] * 1e3, seconds["full"] * 1e3
    fast_mb, full_mb = (
        peak_in_fresh_process("tests.benchmarks.model", "kv_only"),
        peak_in_fresh_process("tests.benchmarks.model", "full"),
    )
    peer = "literal full concatenation"
    return [
        Row("model.kv_only", fast, "ms", peer, full, full / fast, REPEATS),
        Row("model.kv_only.memory", fast_mb, "MiB peak", peer, full_mb, full_mb / fast_mb),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        inputs = build()
        print(added_peak_mib(lambda: step(FORWARDS[sys.argv[2]], *inputs)))
    else:
        write_results("pipeline", kv_only_rows())
