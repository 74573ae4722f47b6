"""Config of the evaluation: prompts, sampler, what the report shows."""

from typing import Annotated

from pydantic import Field

from mos.config import StrictConfig
from mos.identity import HOW, NUMBERS
from mos.sampling.config import SamplerConfig, StageName


class EvaluateConfig(StrictConfig):
    """Config of `pipelines/evaluate.py`: what it draws, checks and shows."""

    stage: Annotated[StageName | None, NUMBERS] = None
    """Text-to-image stage that is judged; where none is named: the last finished one of stage1 to stage4."""
    single_object_prompts: Annotated[int, NUMBERS] = Field(64, ge=0)
    """Held-out prompts of the category `single_object`, the one the demo's colour and shape figures are taken on."""
    prompts_per_category: Annotated[int, NUMBERS] = Field(16, ge=0)
    """Held-out prompts of each other category; only runs on drawn scenes have any."""
    images_per_prompt: Annotated[int, NUMBERS] = Field(1, ge=1)
    """Pictures drawn from each of them, with seeds of their own."""
    sampler: Annotated[SamplerConfig, NUMBERS] = SamplerConfig()
    batch_size: Annotated[int, HOW] = Field(32, ge=1)
    """Pictures drawn together by one actor; how many actors there are is `cluster.generate`."""
    num_edits: Annotated[int, NUMBERS] = Field(6, ge=0)
    """Held-out edits drawn and checked, where the editing stage is finished: the four kinds in turn."""
    router_prompt: Annotated[str, NUMBERS] = "a red circle left of a blue square"
    """Prompt of the router figure."""
    router_panels: Annotated[int, NUMBERS] = Field(6, ge=2)
    """Timesteps shown in the router figure."""
    router_tokens: Annotated[int, NUMBERS] = Field(8, ge=1)
    """Tokens whose layer-by-block map the router figure shows."""
    seed: Annotated[int, NUMBERS] = 0
    """Seed of every picture the evaluation draws."""
