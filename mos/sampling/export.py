"""What a training stage hands over for drawing: weights and the three configs that give them meaning.

`<folder>/model.safetensors` holds the EMA weights, `<folder>/config.json` the sections `model`, `tower`, `vae` and
`run` (provenance).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from mos.config import StrictConfig
from mos.encoders.understanding import TowerConfig
from mos.encoders.vae import VaeConfig
from mos.errors import UserError
from mos.model.mos import ModelConfig, MoS


class ExportConfig(StrictConfig):
    """`config.json` of an export."""

    model: ModelConfig
    tower: TowerConfig
    vae: VaeConfig
    run: dict[str, Any]
    """Provenance; `resolution` is the side in pixels the model was trained at last."""


@dataclass(frozen=True)
class Export:
    """A model on the CPU in float32, and what it was trained with."""

    model: MoS
    config: ExportConfig


def read_export(folder: str | Path) -> Export:
    """Read an export and build its model.

    Raises:
        UserError: there is none, or its config or weights do not belong to this model.
    """
    folder = Path(folder)
    config = _read_config(folder / "config.json")
    with torch.device("meta"):
        model = MoS(config.model)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=True, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"weights {folder / 'model.safetensors'} cannot be used: {error}") from error
    return Export(model.float(), config)


def _read_config(path: Path) -> ExportConfig:
    if not path.is_file():
        raise UserError(f"{path.parent} holds no exported model (no config.json): name the `export` folder of a stage")
    try:
        return ExportConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, ValidationError) as error:
        raise UserError(f"{path} is not the config of an exported model: {error}") from error
