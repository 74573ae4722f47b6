"""The named sizes are those that were published, and those that the configs of runs use."""

import tomllib
from pathlib import Path

import pytest
import torch

from mos.model.mos import ModelConfig, MoS
from mos.model.presets import ABLATION, DEMO, MOS_L, MOS_S


@pytest.mark.parametrize(("preset", "tower_params"), [(MOS_S, 3e9), (MOS_L, 5e9)], ids=["mos_s", "mos_l"])
def test_presets_have_the_published_sizes(preset, tower_params):
    with torch.device("meta"):
        model = MoS(preset)
    router = sum(p.numel() for p in model.router.parameters())
    total = sum(p.numel() for p in model.parameters())
    assert router == pytest.approx(100e6, rel=0.20)
    assert total - router == pytest.approx(tower_params, rel=0.07)


def test_small_presets_build():
    with torch.device("meta"):
        assert sum(p.numel() for p in MoS(ABLATION).parameters()) == pytest.approx(1.08e9, rel=0.07)
        assert sum(p.numel() for p in MoS(DEMO).parameters()) < 8e6


@pytest.mark.parametrize(
    ("preset", "layers", "width"),
    [(DEMO, 6, 384), (ABLATION, 28, 3072), (MOS_S, 32, 4096), (MOS_L, 48, 5120)],
    ids=["MiniLM", "Llama-3.2-3B", "PLM-8B", "InternVL-14B"],
)
def test_every_layer_of_the_named_tower_is_routed(preset, layers, width):
    assert preset.hidden_states == tuple(range(layers + 1))
    assert preset.state_dim == width


@pytest.mark.parametrize(("preset", "name"), [(DEMO, "demo"), (MOS_S, "mos_s"), (MOS_L, "mos_l")])
def test_runs_are_configured_with_their_preset(clone: Path, preset: ModelConfig, name: str):
    config = tomllib.loads((clone / f"pipelines/configs/{name}.toml").read_text(encoding="utf-8"))
    assert ModelConfig.model_validate(config["model"]) == preset
