"""Config of `pipelines/losses.py`: whose loss is measured on every sample, and how closely."""

from typing import Annotated

from pydantic import Field

from mos.config import StrictConfig
from mos.identity import HOW, NUMBERS
from mos.sampling.config import StageName


class LossesConfig(StrictConfig):
    """How the loss of a finished stage is measured on every sample of its view."""

    stage: Annotated[StageName | None, NUMBERS] = None
    """Stage whose averaged weights are measured; where none is named: the last one that is finished."""
    num_timesteps: Annotated[int, NUMBERS] = Field(8, ge=1)
    """Timesteps at which each sample is measured, evenly over (0, 1), each with a noise of its own; the same ones for
    all samples. They are one forward pass."""
    samples_per_part: Annotated[int, HOW] = Field(256, ge=1)
    """Samples that an actor measures before it writes them down: what a kill of it loses at most."""
