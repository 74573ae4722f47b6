"""Drawing a picture: 1024 px, 50 steps with guidance, random weights, against public transformers at their sizes.

Latency is that of the denoiser alone, for all: no text encoder, no VAE. It does not depend on the weights. Guidance is
two passes a step, but for FLUX.1-dev, whose guidance is distilled into one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mos.flow.guidance import guide
from mos.flow.solver import integrate, linear_schedule
from mos.model.context import Context
from mos.model.execution import compile_blocks
from mos.model.mos import ModelConfig, MoS
from tests.benchmarks.device.contexts import CONTEXT_TOKENS, random_context
from tests.benchmarks.device.run import Run
from tests.benchmarks.device.timing import gpu_ms
from tests.benchmarks.harness import Row

STEPS, PEER_STEPS, GUIDANCE = 50, 3, 5.0


def draw(model: MoS, noise: Tensor, context: Context, num_steps: int) -> Tensor:
    """Guided Euler integration; the context holds the conditional half, then the unconditional one."""

    def velocity(z: Tensor, t: float) -> Tensor:
        pair = torch.cat([z, z])
        conditional, unconditional = model(pair, torch.full((len(pair),), t, device=z.device), context).chunk(2)
        return guide(conditional, unconditional, GUIDANCE)

    return integrate(velocity, noise, linear_schedule(num_steps))


def sampling_inputs(
    config: ModelConfig, batch_size: int, resolution_px: int, device: torch.device
) -> tuple[Tensor, Context]:
    """Noise, and contexts of full length: both halves of the guidance pair."""
    side = resolution_px // 16
    noise = torch.randn(batch_size, config.latent_channels, side, side, device=device)
    return noise, random_context(config, 2 * batch_size, device)


def sampling(run: Run, config: ModelConfig) -> None:
    """router.*, sampling.batch1, and the public models that have a mark."""
    run.measure("sampling.batch1", 60, lambda: _single_rows(config))
    peers(run, MARKED)


def more_sampling(run: Run, config: ModelConfig) -> None:
    """sampling.batch4 and batch16, and the other public models."""
    run.measure("sampling.batch4", 60, lambda: _batch_rows(config, 4))
    run.measure("sampling.batch16", 90, lambda: _batch_rows(config, 16))
    peers(run, UNMARKED)


def peers(run: Run, models: Sequence["Peer"]) -> None:
    """latency.*, where a picture of ours has been drawn."""
    for peer in models:
        ours = run.rows.get("sampling.batch1")
        if ours is None:
            run.skip(peer.id, "sampling.batch1 is missing, which it is compared with")
        else:
            run.measure(peer.id, 40, partial(_peer_rows, peer, 1 / ours.value))


def _sampler(config: ModelConfig) -> MoS:
    with torch.device("cuda"):
        return MoS(config).to(torch.bfloat16).eval()


@torch.inference_mode()
def _single_rows(config: ModelConfig) -> Iterator[Row]:
    """Images a second at batch 1, and the router's milliseconds a step."""
    model = _sampler(config)
    noise, context = sampling_inputs(config, 1, 1024, torch.device("cuda"))
    eager = _seconds(lambda: draw(model, noise, context, PEER_STEPS)) * STEPS / PEER_STEPS
    compile_blocks(model)
    seconds = _seconds(lambda: draw(model, noise, context, STEPS))
    yield Row("sampling.batch1", 1 / seconds, "images/s", "blocks not compiled", 1 / eager, eager / seconds)
    yield from _router_rows(model, noise, context, seconds)


def _router_rows(model: MoS, noise: Tensor, context: Context, seconds: float) -> list[Row]:
    """The router's time at batch 1, both halves of the pair; its share of a step with mixing and projection."""
    from mos.model.mixing import mix_context

    pair, times = torch.cat([noise, noise]), torch.full((2,), 0.5, device=noise.device)
    routing = model.route(pair, times, context)
    mixed = mix_context(context, routing)
    ms = gpu_ms(
        {
            "router": lambda: model.route(pair, times, context),
            "mixing": lambda: mix_context(context, routing),
            "projection": lambda: [
                block.context_norm(block.state_in(part)) for block, part in zip(model.blocks, mixed, strict=True)
            ],
        }
    )
    share = sum(ms.values()) / (seconds * 1e3 / STEPS)
    return [
        Row("router.ms", ms["router"], "ms per step", "the mark", 3.0, 3.0 / ms["router"], 15),
        Row("router.share", share, "of a step", "the mark", 0.04, 0.04 / share, 15),
    ]


@torch.inference_mode()
def _batch_rows(config: ModelConfig, batch_size: int) -> Iterator[Row]:
    """Images a second."""
    model = _sampler(config)
    compile_blocks(model)
    noise, context = sampling_inputs(config, batch_size, 1024, torch.device("cuda"))
    seconds = _seconds(lambda: draw(model, noise, context, STEPS))
    yield Row(f"sampling.batch{batch_size}", batch_size / seconds, "images/s")


@dataclass(frozen=True)
class Peer:
    """A public denoiser, and its input for one picture of 1024 px."""

    id: str
    passes_per_step: int
    diffusers_class: str
    options: dict[str, Any]
    """Where the class's defaults are of another size."""
    shapes: dict[str, tuple[int, ...]]
    """Random bf16 arguments."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Other arguments."""

    def build(self, **options: Any) -> Any:
        """The module, with random weights, on the default device.

        Raises:
            ImportError: diffusers is not installed.
        """
        import diffusers

        return getattr(diffusers, self.diffusers_class)(**self.options | options).to(torch.bfloat16).eval()

    def arguments(self, device: str) -> dict[str, Any]:
        """What the module's forward takes."""
        drawn = {name: torch.randn(shape, device=device, dtype=torch.bfloat16) for name, shape in self.shapes.items()}
        return drawn | self.extra


MARKED = (
    Peer(
        "latency.qwen",
        2,
        "QwenImageTransformer2DModel",
        {},
        {"hidden_states": (1, 4096, 64), "encoder_hidden_states": (1, CONTEXT_TOKENS, 3584), "timestep": (1,)},
        {"img_shapes": [[(1, 64, 64)]]},
    ),
    Peer(
        "latency.flux",
        1,
        "FluxTransformer2DModel",
        {"guidance_embeds": True},
        {
            "hidden_states": (1, 4096, 64),
            "encoder_hidden_states": (1, 512, 4096),
            "pooled_projections": (1, 768),
            "timestep": (1,),
            "guidance": (1,),
            "img_ids": (4096, 3),
            "txt_ids": (512, 3),
        },
    ),
)
UNMARKED = (
    Peer(
        "latency.sd35",
        2,
        "SD3Transformer2DModel",
        {
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
        {
            "hidden_states": (1, 16, 128, 128),
            "encoder_hidden_states": (1, 333, 4096),
            "pooled_projections": (1, 2048),
            "timestep": (1,),
        },
    ),
    Peer(
        "latency.sana",
        2,
        "SanaTransformer2DModel",
        {"num_layers": 60, "qk_norm": "rms_norm_across_heads"},
        {"hidden_states": (1, 32, 32, 32), "encoder_hidden_states": (1, 300, 2304), "timestep": (1,)},
    ),
)


@torch.inference_mode()
def _peer_rows(peer: Peer, own_seconds: float) -> Iterator[Row]:
    """Seconds of 50 steps, from a few of its passes, eager as diffusers runs them."""
    with torch.device("cuda"):
        model = peer.build()
    arguments = peer.arguments("cuda")
    seconds = _seconds(lambda: [model(**arguments) for _ in range(PEER_STEPS)]) / PEER_STEPS
    theirs = seconds * peer.passes_per_step * STEPS
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e9
    yield Row(peer.id, own_seconds, "s", f"{size:.1f}B in diffusers", theirs, theirs / own_seconds)


def _seconds(run: Callable[[], Any]) -> float:
    """Wall seconds of the second call."""
    run()
    torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - started
