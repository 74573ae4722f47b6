"""The tower or codec that a config names: loaded, or described without its weights.

transformers and diffusers are imported here alone, and only by who needs them.
"""

from dataclasses import dataclass
from typing import Any

import torch

from mos.encoders.understanding import (
    InternVLConfig,
    LlamaConfig,
    MiniLMConfig,
    MiniLMKeysValuesConfig,
    PerceptionLMConfig,
    Tower,
    TowerConfig,
    checkpoint_of,
    tower_id,
)
from mos.encoders.vae import PASS_MB, Codec, DiffusersConfig, PixelConfig, ShapesVaeConfig, VaeConfig, WanConfig
from mos.encoders.weights import first_line, locate
from mos.errors import UserError
from mos.precision import resolve_dtype


def load_tower(config: TowerConfig, device: str = "cpu") -> Tower:
    """Load the frozen tower that a config names.

    Raises:
        UserError: the weights are missing, incomplete or of another architecture, or a package is not installed.
    """
    config = config.model_copy(update={"dtype": resolve_dtype(config.dtype, device)})
    model = load_tower_model(config).to(device)
    return tower_of(config, model, load_tower_tokenizer(config), tower_id(config))


def load_tower_model(config: TowerConfig) -> Any:
    """The language model that a config names, on the CPU in its dtype.

    Raises:
        UserError: the weights are missing, incomplete or of another architecture, or a package is not installed.
    """
    config = config.model_copy(update={"dtype": resolve_dtype(config.dtype, "cpu")})
    match config:
        case MiniLMConfig() | MiniLMKeysValuesConfig() | LlamaConfig():
            from mos.encoders.text_tower import load_text_model

            return load_text_model(config, checkpoint_of(config))
        case InternVLConfig() | PerceptionLMConfig():
            from mos.encoders.vision_tower import load_vision_model

            return load_vision_model(config, checkpoint_of(config))


def load_tower_tokenizer(config: TowerConfig) -> Any:
    """The tokenizer beside it.

    Raises:
        UserError: there is none.
    """
    from mos.encoders.prompts import load_tokenizer

    return load_tokenizer(checkpoint_of(config))


def tower_of(config: TowerConfig, model: Any, tokenizer: Any, tower_id: str) -> Tower:
    """The tower that a config makes of a model and its tokenizer, wherever they come from."""
    match config:
        case MiniLMConfig() | LlamaConfig():
            from mos.encoders.text_tower import TextTower

            return TextTower.of(config, model, tokenizer, tower_id)
        case MiniLMKeysValuesConfig():
            from mos.encoders.keys_values import KeysValuesTower

            return KeysValuesTower.of(config, model, tokenizer, tower_id)
        case InternVLConfig() | PerceptionLMConfig():
            from mos.encoders.vision_tower import VisionTower

            return VisionTower.of(config, model, tokenizer, tower_id)


@dataclass(frozen=True)
class TowerSpec:
    """Identity and shape of a tower, known without its weights."""

    tower_id: str
    num_layers: int
    """m."""
    dim: int
    sees_images: bool


def describe_tower(config: TowerConfig) -> TowerSpec:
    """Read a tower's shape from its checkpoint's own config.

    Raises:
        UserError: there is no such checkpoint, or it is of another architecture.
    """
    from transformers import AutoConfig

    checkpoint = checkpoint_of(config)
    try:
        model = AutoConfig.from_pretrained(**checkpoint.options(), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{checkpoint.path} has no readable config: {first_line(error)}") from error
    if model.model_type != MODEL_TYPES[config.type]:
        raise UserError(
            f"{checkpoint.path} is a {model.model_type} checkpoint, tower type {config.type!r} loads "
            f"{MODEL_TYPES[config.type]}: correct `type` or `path`"
        )
    text = model.get_text_config()
    sees_images = isinstance(config, InternVLConfig | PerceptionLMConfig)
    dim = text.hidden_size * (2 if isinstance(config, MiniLMKeysValuesConfig) else 1)
    return TowerSpec(tower_id(config), text.num_hidden_layers, dim, sees_images)


MODEL_TYPES = {
    "minilm": "bert",
    "minilm_keys_values": "bert",
    "llama": "llama",
    "internvl": "internvl",
    "perceptionlm": "perception_lm",
}
"""The `model_type` in a checkpoint's config.json that each type of tower loads."""


def load_codec(config: VaeConfig, device: str = "cpu", pass_mb: int = PASS_MB) -> Codec:
    """Build the codec that a config names.

    Args:
        config: type and weights.
        device: of torch.
        pass_mb: MiB that a pass may take beside the weights: batches are cut into passes, results are the same.

    Raises:
        UserError: the weights are missing, incomplete or of another architecture.
    """
    match config:
        case PixelConfig():
            from mos.encoders.pixel_codec import PixelCodec

            return PixelCodec(config)
        case WanConfig():
            from mos.encoders.wan_vae import WanCodec

            return WanCodec.load(config, device, pass_mb)
        case DiffusersConfig():
            from mos.encoders.diffusers_vae import DiffusersCodec

            return DiffusersCodec.load(config, device, pass_mb)
        case ShapesVaeConfig():
            return load_codec(config.shipped, device, pass_mb)


def load_vae(config: VaeConfig) -> Any:
    """The module of diffusers that a codec works with, on the CPU in float32; for `pixel` one without weights.

    Raises:
        UserError: the weights are missing, incomplete or of another architecture.
    """
    match config:
        case PixelConfig():
            from mos.encoders.pixel_autoencoder import PixelAutoencoder

            return PixelAutoencoder(config.stride, config.scale)
        case WanConfig():
            from mos.encoders import wan_vae

            return wan_vae.load_vae(config)
        case DiffusersConfig():
            from mos.encoders import diffusers_vae

            return diffusers_vae.load_vae(config)
        case ShapesVaeConfig():
            return load_vae(config.shipped)


def codec_of(vae: Any, device: torch.device, pass_mb: int = PASS_MB) -> Codec:
    """The codec that works with a module of diffusers, which stays as it is: its tiling, slicing and hooks hold.

    Args:
        vae: as `load_vae` gives it, wherever it comes from.
        device: where it runs.
        pass_mb: as for `load_codec`.

    Raises:
        UserError: the class of the module is none that is read.
    """
    name = type(vae).__name__
    match name:
        case "PixelAutoencoder":
            from mos.encoders.pixel_codec import PixelCodec

            return PixelCodec(PixelConfig(stride=vae.config.stride, scale=vae.config.scale))
        case "AutoencoderKLWan":
            from mos.encoders.wan_vae import WanCodec

            return WanCodec(vae, name, pass_mb, device, shared=True)
        case _:
            from mos.encoders.diffusers_vae import DiffusersCodec, geometry_of

            return DiffusersCodec(vae, geometry_of(vae.config, "vae", name), name, pass_mb, device)


@dataclass(frozen=True)
class CodecSpec:
    """Identity and geometry of a codec, known without its weights."""

    codec_id: str
    channels: int
    stride: int


def describe_codec(config: VaeConfig) -> CodecSpec:
    """Identity and geometry of a codec; a random Wan VAE is built for it, its weights being its identity.

    Raises:
        UserError: there is no such checkpoint.
    """
    match config:
        case PixelConfig():
            from mos.encoders import pixel_codec

            return CodecSpec(pixel_codec.codec_id(config), 3 * config.stride**2, config.stride)
        case WanConfig():
            from mos.encoders import wan_vae

            return CodecSpec(wan_vae.codec_id(config), wan_vae.CHANNELS, wan_vae.STRIDE)
        case DiffusersConfig():
            from mos.encoders import diffusers_vae

            geometry = diffusers_vae.read_geometry(locate(config.path, config.revision, config.subfolder))
            return CodecSpec(diffusers_vae.codec_id(config), geometry.channels, geometry.stride)
        case ShapesVaeConfig():
            return describe_codec(config.shipped)
