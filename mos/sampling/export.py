"""Reading what a training stage exported: the model, and the configs of the tower and the codec it was trained with.

It needs torch alone; `mos.model.exported` is the layout, in which `MoSPipeline.save_pretrained` writes, too.
"""

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mos.config import StrictConfig
from mos.encoders.understanding import TowerConfig
from mos.encoders.vae import VaeConfig
from mos.errors import UserError
from mos.model.exported import INDEX, OLDER_CONFIG, is_pipeline, model_tree, weight_files
from mos.model.mos import ModelConfig, MoS

WHY = 160
"""Characters of torch's reasons in a sentence: it lists every weight."""
WITHOUT_BIAS = "blocks.0.context.norm.weight"
"""A weight of models whose Proj_j had no bias."""


class ExportConfig(StrictConfig):
    """What an export tells beside its weights."""

    model: ModelConfig
    tower: TowerConfig
    vae: VaeConfig
    run: dict[str, Any]
    """Where the weights come from: `resolution` is the side in pixels of the square bucket trained last,
    `bucket_aspect` how long the other buckets were, `config` the stage's own, with its `tasks`."""

    @property
    def bucket_aspect(self) -> float:
        """Longest side over shortest side of the buckets it was trained in; where the export does not say: 2."""
        return float(self.run.get("bucket_aspect", 2.0))

    @property
    def edits(self) -> bool:
        """True if the stage that made it trained on pictures to edit."""
        return "edit" in self.run.get("config", {}).get("tasks", ())


@dataclass(frozen=True)
class Export:
    """A trained model on the CPU in float32, and what it was trained with."""

    model: MoS
    config: ExportConfig

    @property
    def resolution(self) -> int:
        """Side in pixels of a picture whose size is not given."""
        return int(self.config.run["resolution"])


def read_export(folder: str | PathLike) -> Export:
    """Read an export and build its model.

    Raises:
        UserError: there is none, or its config or weights do not belong to this model.
    """
    config = read_export_config(folder)
    with torch.device("meta"):
        model = MoS(config.model)
    try:
        weights = {name: value for path in weight_files(Path(folder)) for name, value in load_file(path).items()}
        if WITHOUT_BIAS in weights:
            raise UserError(
                f"weights of {folder} are of a version whose Proj_j had no bias (its norm lost the size of eq. 4's "
                "sum): train the stage again, or draw with that version"
            )
        model.load_state_dict(weights, strict=True, assign=True)
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"weights of {folder} cannot be used by this version of the model "
            f"({why[:WHY]}{'…' * (len(why) > WHY)}): name another export, or train the stage again"
        ) from error
    return Export(model.float(), config)


def read_export_config(folder: str | PathLike) -> ExportConfig:
    """Read the config of an export alone.

    Raises:
        UserError: there is none, or it is not one.
    """
    if not isinstance(folder, str | PathLike):
        raise UserError(f"export = {folder!r} is not a folder: name the `export` folder of a stage")
    path = Path(folder, INDEX if is_pipeline(Path(folder)) else OLDER_CONFIG)
    if not path.is_file():
        raise UserError(f"{folder} holds no exported model (no {INDEX}): name the `export` folder of a stage")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        config = ExportConfig.model_validate(tree if path.name == OLDER_CONFIG else _tree(tree, path.parent))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not the config of an exported model: {' '.join(str(error).split())}") from error
    run = config.run
    if not _is_number(run.get("resolution"), int) or run["resolution"] < 1:
        raise UserError(f"{path} does not say at which resolution its model was trained: set run.resolution in it")
    if not _is_number(run.get("bucket_aspect", 2.0), int | float) or config.bucket_aspect < 1:
        raise UserError(f"{path} has run.bucket_aspect = {run['bucket_aspect']!r}: set it to a number of at least 1")
    stage = run.get("config", {})
    if not isinstance(stage, dict) or not isinstance(stage.get("tasks", []), list):
        raise UserError(f"{path} has a run.config that is no stage's: export the stage again")
    return config


def _tree(index: Any, folder: Path) -> dict[str, Any]:
    """What an index of a pipeline and the shape of its model say of an export."""
    if not isinstance(index, dict):
        raise ValueError("it is no object")
    return {
        "model": model_tree(folder),
        "tower": index.get("tower"),
        "vae": index.get("codec"),
        "run": index.get("run"),
    }


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
