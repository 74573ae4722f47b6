"""What the encode step runs: which tower, which codec, and how many actors of which size."""

from typing import Self

from pydantic import Field, model_validator

from mos.config import StrictConfig
from mos.encoders.understanding import MiniLMConfig, TowerConfig
from mos.encoders.vae import PixelConfig, VaeConfig
from mos.states.payload import FormatName


class ActorConfig(StrictConfig):
    """The pool of actors that hold a frozen model each."""

    min_actors: int = Field(default=1, ge=1)
    """Actors kept from the start."""
    max_actors: int = Field(default=2, ge=1)
    """Ray Data grows the pool up to here while work is waiting."""
    threads_per_actor: int = Field(default=1, ge=1)
    """CPU cores and torch threads of one actor."""
    gpus_per_actor: float = Field(default=0.0, ge=0.0)
    """GPUs of one actor; above zero the models run on CUDA."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_actors < self.min_actors:
            raise ValueError(f"max_actors = {self.max_actors} is less than min_actors = {self.min_actors}")
        return self

    @property
    def device(self) -> str:
        """Where the models of an actor live."""
        return "cuda" if self.gpus_per_actor > 0 else "cpu"


class EncodeConfig(StrictConfig):
    """The encode step: contexts to hidden states, images to latents."""

    tower: TowerConfig = Field(default_factory=MiniLMConfig)
    """Understanding tower; its states of all layers are stored."""
    vae: VaeConfig = Field(default_factory=PixelConfig)
    """Latent codec."""
    state_format: FormatName = "bf16"
    """Payload of the states table, see mos.states.payload."""
    actors: ActorConfig = Field(default_factory=ActorConfig)
    """Pool that runs tower and codec, one after the other."""
    contexts_per_batch: int = Field(default=32, ge=1)
    """Contexts of similar length in one forward pass of the tower."""
    images_per_batch: int = Field(default=32, ge=1)
    """Images of one bucket in one forward pass of the codec."""
    rows_per_fragment: int = Field(default=512, ge=1)
    """Rows an actor encodes before it writes them; its payloads are in memory until then."""
    fragments_per_commit: int = Field(default=4, ge=1)
    """Finished fragments between commits: a killed run loses at most these and what the actors hold."""
