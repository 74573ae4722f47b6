"""What the encode step runs: which tower, which codec, and how much work at a time."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from mos.config import StrictConfig
from mos.encoders.understanding import MiniLMConfig, TowerConfig
from mos.encoders.vae import PixelConfig, VaeConfig
from mos.states.payload import FormatName


class ActorConfig(StrictConfig):
    """The pool of actors that hold the frozen models: first the tower, then, in a new pool, the codec."""

    min_actors: int = Field(default=1, ge=1)
    """Actors kept from the start; the cluster must have room for them."""
    max_actors: int = Field(default=2, ge=1)
    """The pool grows up to here while work is waiting and there is room."""
    threads_per_actor: int = Field(default=1, ge=1)
    """CPU cores and torch threads of one actor."""
    gpus_per_actor: float = Field(default=0.0, ge=0.0)
    """GPUs of one actor; above zero the models run on CUDA."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Label selector of the nodes that may run them."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_actors < self.min_actors:
            raise ValueError(f"max_actors = {self.max_actors} is less than min_actors = {self.min_actors}")
        return self

    @property
    def device(self) -> str:
        """Where the models of an actor live."""
        return "cuda" if self.gpus_per_actor > 0 else "cpu"

    def options(self) -> dict[str, Any]:
        """What one actor asks of Ray."""
        options: dict[str, Any] = {"num_cpus": self.threads_per_actor}
        if self.gpus_per_actor:
            options["num_gpus"] = self.gpus_per_actor
        if self.labels:
            options["label_selector"] = dict(self.labels)
        return options


class EncodeConfig(StrictConfig):
    """The encode step: contexts to hidden states, images to latents."""

    tower: TowerConfig = Field(default_factory=MiniLMConfig)
    """Understanding tower; its states of all layers are stored."""
    vae: VaeConfig = Field(default_factory=PixelConfig)
    """Latent codec."""
    state_format: FormatName = "bf16"
    """Payload of the states table, see mos.states.payload."""
    actors: ActorConfig = Field(default_factory=ActorConfig)
    """Pool that runs the tower and then the codec."""
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
