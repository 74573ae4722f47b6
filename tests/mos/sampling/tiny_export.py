"""A model of real parts that is small enough to draw with in a test, and its export folder."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from mos.model.exported import WEIGHTS, layout_of
from mos.model.fusion import RoutedFusion
from mos.model.mos import ModelConfig, MoS
from mos.model.router import RouterConfig

TINY = ModelConfig(
    latent_channels=12,
    patch=2,
    state_dim=384,
    state_layers=6,
    dim=32,
    num_blocks=3,
    num_heads=2,
    ffn_dim=64,
    fusion=RoutedFusion(router=RouterConfig(dim=16, num_heads=2, ffn_dim=32)),
)


def random_model(config: ModelConfig = TINY, seed: int = 0) -> MoS:
    """Random weights in every layer, so that the velocity depends on prompt, noise, time and reference."""
    generator = torch.Generator().manual_seed(seed)
    model = MoS(config)
    model.init_weights(generator)
    with torch.no_grad():
        model.patch_out.weight.normal_(0.0, 0.2, generator=generator)
        for block in model.blocks:
            block.out.weight.mul_(4.0)
    return model.eval()


def run_of(resolution: int, tasks: Sequence[str] = ("generate", "edit")) -> dict[str, object]:
    """What an export tells of its stage."""
    return {"name": "tiny", "stage": "edit", "resolution": resolution, "config": {"tasks": list(tasks)}}


def told() -> dict[str, object]:
    """What an export tells beside its weights."""
    return {
        "model": TINY.model_dump(mode="json"),
        "tower": {"type": "minilm"},
        "vae": {"type": "pixel"},
        "run": run_of(16),
    }


def save_export(folder: Path, *, seed: int = 0, **changes: object) -> Path:
    """What a training stage left behind before diffusers' layout; `changes` replace sections of its config."""
    folder.mkdir(parents=True)
    save_file(random_model(seed=seed).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**told(), **changes}), encoding="utf-8")
    return folder


def save_new_export(folder: Path, *, seed: int = 0, **changes: object) -> Path:
    """What a training stage leaves behind; `changes` replace sections of what it tells."""
    for name, content in layout_of({**told(), **changes}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    save_file(random_model(seed=seed).state_dict(), folder / WEIGHTS)
    return folder
