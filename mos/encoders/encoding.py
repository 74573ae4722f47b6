"""Config of the encode step: which tower, which codec, and how much work at a time."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator

from mos.config import StrictConfig
from mos.encoders.understanding import MiniLMConfig, TowerConfig
from mos.encoders.vae import PASS_MB, PixelConfig, VaeConfig
from mos.errors import UserError
from mos.identity import HOW, NUMBERS
from mos.states.packed import FormatName
from mos.states.quality import QualityBound
from mos.workers import PoolConfig


class EncodeConfig(StrictConfig):
    """The encode step: contexts to hidden states, images to latents."""

    tower: Annotated[TowerConfig, NUMBERS] = Field(default_factory=MiniLMConfig)
    """Understanding tower; its states of all layers are stored."""
    vae: Annotated[VaeConfig, NUMBERS] = Field(default_factory=PixelConfig)
    """Latent codec."""
    state_format: Annotated[FormatName, NUMBERS] = "bf16"
    """Payload of the states table: `bf16` is exact, 0.70 of its raw bytes; `int8` 0.51; `int4` 0.27."""
    layers: Annotated[tuple[int, ...] | None, NUMBERS] = None
    """Hidden states to keep, ascending: 0 is the embedding, which routers read, m the last layer. None: all of them."""
    quality: Annotated[QualityBound, HOW] = Field(default_factory=QualityBound)
    """Encoding stops where a quantised format loses more."""
    calibration_contexts: Annotated[int, NUMBERS] = Field(default=256, ge=2)
    """Contexts by which a quantised format is calibrated, where no run of this tower has done so before."""
    actors: Annotated[PoolConfig, HOW] = Field(default_factory=PoolConfig)
    """The pool that holds the frozen models: first the tower, then, in new actors, the VAE. `max` may be `auto`: as
    many as this machine's cores hold."""
    images_per_batch: Annotated[int, HOW] = Field(default=32, ge=1)
    """Images of one bucket that are decoded and given to the codec together."""
    pass_mb: Annotated[int, HOW] = Field(default=PASS_MB, ge=64)
    """MiB that a pass of the codec may take beside its weights: images that do not fit together are encoded one after
    another, and one that does not fit by itself in strips, if the codec is Wan's."""
    rows_per_fragment: Annotated[int, HOW] = Field(default=512, ge=1)
    """Rows that an actor takes at a time, and writes as one fragment unless they are too many bytes."""
    mb_per_fragment: Annotated[int, HOW] = Field(default=1024, ge=1)
    """MiB of states or latents that an actor holds in memory before it writes them: longer runs of rows become several
    fragments."""
    fragments_per_commit: Annotated[int, HOW] = Field(default=4, ge=1)
    """Finished fragments between commits. A killed run loses what its actors hold; the next one commits the rest."""

    def held_layers(self, num_layers: int) -> tuple[int, ...]:
        """Hidden states that a table of a tower with `num_layers` (m) layers holds.

        Raises:
            UserError: the tower has no such layer.
        """
        if self.layers is None:
            return tuple(range(num_layers + 1))
        if self.layers[-1] > num_layers:
            raise UserError(f"encode.layers names {self.layers[-1]}, the tower's last is {num_layers}: leave it out")
        return self.layers

    @field_validator("layers")
    @classmethod
    def _ascending(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers is not None and (not layers or layers[0] != 0 or sorted(set(layers)) != list(layers)):
            raise ValueError(f"layers = {list(layers)} must ascend from 0, the embedding that routers read")
        return layers

    def anchored(self, base: Path) -> Self:
        """The same config with absolute paths: a relative weights folder stands in `base`; a hub id stays as it is."""
        tree = self.model_dump()
        for section in (tree["tower"], tree["vae"]):
            path = section.get("path")
            if path is not None and (base / path).is_dir():
                section["path"] = str((base / path).resolve())
        return type(self).model_validate(tree)
