"""Parts of a pipeline that its folder holds by reference, and those of a folder from before diffusers' layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from pydantic import BaseModel, TypeAdapter
from torch import nn

from mos.encoders.load import load_tower_model, load_tower_tokenizer, load_vae
from mos.encoders.understanding import Tower, TowerConfig
from mos.encoders.vae import Codec, DiffusersConfig, PixelConfig, WanConfig
from mos.errors import UserError
from mos.model.exported import NUM_TRAIN_TIMESTEPS
from mos.model.mos import ModelConfig
from mos.sampling.export import ExportConfig, read_export
from mos.sampling.transformer import MoSTransformer

PARTS = ("transformer", "scheduler", "vae", "text_encoder", "tokenizer")
Dtype = torch.dtype | Mapping[str, torch.dtype] | None
"""Of all parts, or of each by name and `default` for the others; None: as they are."""
TOWER: TypeAdapter[TowerConfig] = TypeAdapter(TowerConfig)


def euler_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Euler steps at the timesteps that they are given, unshifted: those of `mos.flow.solver`."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=NUM_TRAIN_TIMESTEPS, shift=1.0)


def load_part(name: str, folder: Path, config: ExportConfig, dtype: Dtype) -> Any:
    """One of `PARTS`, from where an export says that it stands, on the CPU.

    Raises:
        UserError: it cannot be loaded.
    """
    chosen = dtype.get(name, dtype.get("default", torch.float32)) if isinstance(dtype, Mapping) else dtype
    match name:
        case "scheduler":
            return euler_scheduler()
        case "tokenizer":
            return load_tower_tokenizer(config.tower)
        case "text_encoder":
            part = _text_encoder(config.tower, chosen)
        case "vae":
            part = load_vae(config.vae)
        case _:
            part = MoSTransformer.of(read_export(folder).model).eval()
    return part if chosen is None else cast(part, chosen)


def cast(module: nn.Module, dtype: torch.dtype) -> Any:
    """A module in a dtype; that of diffusers warns of modules to keep in float32 where there are none."""
    return nn.Module.to(module, dtype=dtype)


def inside(tower: TowerConfig) -> dict[str, Any]:
    """A tower's config where its weights stand in the pipeline's folder: without the path they came from."""
    found = tower.model_dump(mode="json")
    return {**found, "path": "text_encoder", "revision": None} if "revision" in found else {**found, "path": None}


def codec_inside(vae: Any) -> dict[str, Any] | None:
    """The config of a codec whose weights stand in the pipeline's folder."""
    config: BaseModel
    match type(vae).__name__:
        case "NoneType":
            return None
        case "PixelAutoencoder":
            config = PixelConfig(stride=vae.config.stride, scale=vae.config.scale)
        case "AutoencoderKLWan":
            config = WanConfig(path="vae")
        case _:
            config = DiffusersConfig(path="vae")
    return config.model_dump(mode="json")


def require_fit(model: ModelConfig, tower: Tower | None, codec: Codec | None) -> None:
    """Refuse parts that the model was not trained with.

    Raises:
        UserError: tower or codec have other widths.
    """
    if tower is not None and (
        tower.num_layers < model.hidden_states[-1]
        or (model.routed_layers is None and tower.num_layers != model.state_layers)
        or tower.dim != model.state_dim
    ):
        raise UserError(
            f"tower {tower.tower_id} has {tower.num_layers} layers of width {tower.dim}, but the model was trained on "
            f"{model.state_layers} layers of width {model.state_dim}: load the tower the model was trained with"
        )
    if codec is not None and codec.channels != model.latent_channels:
        raise UserError(
            f"codec {codec.codec_id} has {codec.channels} latent channels, but the model was trained on "
            f"{model.latent_channels}: load the codec the model was trained with"
        )


def _text_encoder(tower: TowerConfig, dtype: torch.dtype | None) -> Any:
    """Read in the dtype that is asked for, so that its weights are not rounded on the way."""
    if dtype is None:
        return load_tower_model(tower)
    name = "bfloat16" if dtype == torch.bfloat16 else "float32"
    return load_tower_model(tower.model_copy(update={"dtype": name}))
