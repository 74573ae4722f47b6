"""How pictures are drawn: the solver's settings, and what `pipelines/sample.py` is to draw."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from mos.config import StrictConfig
from mos.identity import HOW, NUMBERS

StageName = Literal["stage1", "stage2", "stage3", "stage4", "edit"]


class SamplerConfig(StrictConfig):
    """Settings of the Euler solver (paper Algorithm 2 and Appendix B.6)."""

    steps: int = Field(20, ge=1)
    """Euler steps from t = 1 (noise) to t = 0 (image)."""
    guidance: float = Field(4.0, ge=0.0, allow_inf_nan=False)
    """Classifier-free guidance scale; 0 and 1 are the conditional model alone, at half the work."""
    guidance_rescale: float = Field(0.0, ge=0.0, le=1.0)
    """Share of the guided velocity brought back to the spread of the conditional one (Lin et al. 2024)."""
    schedule: Literal["linear", "linear_quadratic"] = "linear"
    """Spacing of the timesteps; `linear_quadratic` takes small steps near the noise (Movie Gen)."""

    @field_validator("guidance")
    @classmethod
    def _on_or_off(cls, guidance: float) -> float:
        if 0 < guidance < 1:
            raise ValueError("a scale between 0 and 1 would weaken the prompt: use 0 or 1 for none, or more than 1")
        return guidance


class SampleConfig(StrictConfig):
    """Config of `pipelines/sample.py`."""

    export: Annotated[str | None, NUMBERS] = None
    """Folder of an exported model to draw with, in this process, instead of a stage of the run."""
    stage: Annotated[StageName | None, NUMBERS] = None
    """Stage whose model draws; where none is named: the last finished of stage1 to stage4, or `edit` with a source."""
    prompt: Annotated[str | None, NUMBERS] = None
    """One prompt, or the instruction where `source` is given; or a PNG that was drawn here, to draw it again."""
    prompts: Annotated[str | None, NUMBERS] = None
    """File of prompts: text with one a line, or jsonl, csv or parquet whose rows have a `prompt` and may have
    `negative_prompt`, `seed`, `height`, `width` and `guidance` of their own."""
    source: Annotated[str | None, NUMBERS] = None
    """Picture to edit; every prompt is then an instruction."""
    negative_prompt: Annotated[str, NUMBERS] = ""
    """What guidance points away from; empty is the context that caption dropout trained."""
    num_images: Annotated[int, NUMBERS] = Field(24, ge=1)
    """Pictures drawn where no prompt is given at all: held-out prompts of drawn scenes, else captions of the data."""
    images_per_prompt: Annotated[int, NUMBERS] = Field(1, ge=1)
    """Pictures of each prompt, from different seeds."""
    height: Annotated[int | None, NUMBERS] = Field(None, ge=1)
    """Pixels; where none is given: the stage's resolution."""
    width: Annotated[int | None, NUMBERS] = Field(None, ge=1)
    """Pixels; where none is given: the stage's resolution."""
    sampler: Annotated[SamplerConfig, NUMBERS] = SamplerConfig()
    compile: Annotated[bool, HOW] = False
    """Compile the model's blocks: a minute at the start, for many pictures on a GPU."""
    batch_size: Annotated[int, HOW] = Field(16, ge=1)
    """Pictures drawn together by one actor; how many actors there are is `cluster.generate`."""
