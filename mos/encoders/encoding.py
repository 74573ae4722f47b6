"""What the encode step runs: which tower, which codec, and how much work at a time."""

from pathlib import Path
from typing import Self

from pydantic import Field

from mos.config import StrictConfig
from mos.encoders.understanding import MiniLMConfig, TowerConfig
from mos.encoders.vae import PixelConfig, VaeConfig
from mos.states.payload import FormatName


class EncodeConfig(StrictConfig):
    """The encode step: contexts to hidden states, images to latents."""

    tower: TowerConfig = Field(default_factory=MiniLMConfig)
    """Understanding tower; its states of all layers are stored."""
    vae: VaeConfig = Field(default_factory=PixelConfig)
    """Latent codec."""
    state_format: FormatName = "bf16"
    """Payload of the states table, see mos.states.payload."""
    contexts_per_batch: int = Field(default=32, ge=1)
    """Contexts of similar length in one forward pass of the tower."""
    images_per_batch: int = Field(default=32, ge=1)
    """Images of one bucket in one forward pass of the codec."""
    rows_per_fragment: int = Field(default=512, ge=1)
    """Rows an actor encodes before it writes them; its payloads are in memory until then."""
    fragments_per_commit: int = Field(default=4, ge=1)
    """Finished fragments between commits: a killed run loses at most these and what the actors hold."""

    def anchored(self, base: Path) -> Self:
        """The same config with absolute paths: a relative weights folder stands in `base`; a hub id stays as it is."""
        tree = self.model_dump()
        for section in (tree["tower"], tree["vae"]):
            path = section.get("path")
            if path is not None and (base / path).is_dir():
                section["path"] = str((base / path).resolve())
        return type(self).model_validate(tree)
