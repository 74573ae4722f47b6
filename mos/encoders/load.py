"""The tower or codec that a config names: loaded, or described without its weights.

transformers and diffusers are imported here alone, and only by who needs them.
"""

from dataclasses import dataclass

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
    match config:
        case MiniLMConfig() | LlamaConfig():
            from mos.encoders.text_tower import TextTower

            return TextTower.load(config, device)
        case MiniLMKeysValuesConfig():
            from mos.encoders.keys_values import KeysValuesTower

            return KeysValuesTower.load(config, device)
        case InternVLConfig() | PerceptionLMConfig():
            from mos.encoders.vision_tower import VisionTower

            return VisionTower.load(config, device)


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
