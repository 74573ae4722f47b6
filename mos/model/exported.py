"""Where the parts of an exported model stand in its folder: the layout of diffusers' pipelines, and the one before it.

model_index.json                                     its parts; `tower`, `codec` (by reference) and `run`
transformer/config.json                              a `ModelConfig`
transformer/diffusion_pytorch_model.safetensors      every weight of a `MoS`; or shards, and an index of them
scheduler/scheduler_config.json                      of diffusers' FlowMatchEulerDiscreteScheduler

Before, config.json held `model`, `tower`, `vae` and `run`, and model.safetensors the weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INDEX = "model_index.json"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"
SHAPE = "transformer/config.json"
SCHEDULER = "scheduler/scheduler_config.json"
OLDER_CONFIG = "config.json"
OLDER_WEIGHTS = "model.safetensors"

NUM_TRAIN_TIMESTEPS = 1000
"""Of the scheduler: its timesteps are t, in [0, 1] with 1 = noise, times this."""


def is_pipeline(folder: Path) -> bool:
    """True for diffusers' layout."""
    return (folder / INDEX).is_file()


def is_export(folder: Path) -> bool:
    """True if a folder holds a model in either layout."""
    if is_pipeline(folder):
        return (folder / SHAPE).is_file() and any((folder / name).is_file() for name in (WEIGHTS, SHARDS))
    return (folder / OLDER_CONFIG).is_file() and (folder / OLDER_WEIGHTS).is_file()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that hold an export's weights, by name.

    Raises:
        OSError: the index of shards cannot be read.
        ValueError: it is none.
    """
    if not is_pipeline(folder):
        return [folder / OLDER_WEIGHTS]
    if not (folder / SHARDS).is_file():
        return [folder / WEIGHTS]
    index = json.loads((folder / SHARDS).read_text("utf-8"))
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
        raise ValueError(f"{folder / SHARDS} has no weight_map")
    return [(folder / SHARDS).parent / Path(name).name for name in sorted(set(index["weight_map"].values()))]


def model_tree(folder: Path) -> Any:
    """The settings of an export's `ModelConfig`.

    Raises:
        OSError: there are none.
        ValueError: they are no JSON.
        KeyError: there are none in an older layout's config.
    """
    if not is_pipeline(folder):
        return json.loads((folder / OLDER_CONFIG).read_text("utf-8"))["model"]
    tree = json.loads((folder / SHAPE).read_text("utf-8"))
    return {name: value for name, value in tree.items() if not name.startswith("_")}


def layout_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The files beside an export's weights: path in its folder -> content.

    The tower and the codec are there by reference: `MoSPipeline.from_pretrained` loads them from where they are.

    Args:
        config: `model`, `tower`, `vae` and `run`, as of `mos.sampling.export.ExportConfig`.
    """
    index = {
        "_class_name": "MoSPipeline",
        "transformer": ["mos.sampling.transformer", "MoSTransformer"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        **dict.fromkeys(("vae", "text_encoder", "tokenizer"), (None, None)),
        "tower": config.get("tower"),
        "codec": config.get("vae"),
        "run": config.get("run"),
    }
    scheduler = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
        "shift": 1.0,
    }
    model = {"_class_name": "MoSTransformer", **config.get("model", {})}
    return {INDEX: index, SHAPE: model, SCHEDULER: scheduler}
