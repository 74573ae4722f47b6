"""The trained model as a module of diffusers: the generation tower with its router, saved and loaded as any other.

It is a `MoS` in every respect but its origin; `shape` is its `ModelConfig`, `config` the same as diffusers keeps it.
"""

from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from mos.model.mos import ModelConfig, MoS


class MoSTransformer(ModelMixin, MoS, ConfigMixin):
    """Velocity of a noised latent given all hidden states of a context, see `MoS.forward`."""

    _no_split_modules = ("GenerationBlock", "CrossAttentionBlock", "MixtureOfTransformersBlock", "Router")
    _repeated_blocks = _no_split_modules
    _skip_layerwise_casting_patterns = ("patch_in", "context_in", "layer_attention", "norm")  # which tell the dtype

    @register_to_config
    def __init__(
        self,
        latent_channels: int,
        patch: int,
        state_dim: int,
        state_layers: int,
        dim: int,
        num_blocks: int,
        num_heads: int,
        ffn_dim: int,
        fusion: dict[str, Any],
        num_registers: int = 4,
        routed_layers: list[int] | None = None,
    ) -> None:
        """Build the model, with weights that torch gives new layers; the arguments are those of `ModelConfig`."""
        kept: Any = self._internal_dict
        settings = {name: value for name, value in kept.items() if not name.startswith("_")}
        MoS.__init__(self, ModelConfig.model_validate(settings))
        self._gradient_checkpointing_func = None

    @classmethod
    def of(cls, model: MoS) -> Self:
        """The same model, sharing its weights."""
        with torch.device("meta"):
            transformer = cls(**model.shape.model_dump(mode="json"))
        transformer.load_state_dict(model.state_dict(), strict=True, assign=True)
        return transformer.train(model.training)
