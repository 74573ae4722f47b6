"""Config of `pipelines/benchmark.py`: which benchmark, where its prompts are, who draws them and how."""

from typing import Annotated, Literal

from pydantic import Field

from mos.config import StrictConfig
from mos.identity import HOW, HOW_FAR, NUMBERS
from mos.sampling.config import SamplerConfig, StageName

BenchmarkName = Literal["geneval", "dpg", "wise", "oneig", "imgedit", "gedit", "mjhq"]


class JudgeConfig(StrictConfig):
    """A language model that judges pictures, behind an OpenAI-compatible endpoint; the scorers call it."""

    base_url: str | None = None
    """Address of the endpoint, such as http://127.0.0.1:8000/v1; where left out: the scorer's own."""
    model: str | None = None
    """Its name there; where left out: the one that published figures are by."""
    key_variable: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable that holds the key: keys stand in no config."""


class BenchmarksConfig(StrictConfig):
    """Config of `pipelines/benchmark.py`."""

    benchmark: Annotated[BenchmarkName | None, NUMBERS] = None
    """Which one: geneval, dpg, wise, oneig, imgedit, gedit or mjhq."""
    prompts: Annotated[str | None, NUMBERS] = None
    """Its prompts, as its own repository has them: `prompts/evaluation_metadata.jsonl` of GenEval, the folder
    `dpg_bench/prompts` of ELLA, `WISE_legacy/data` or `data_verified` of WISE, `OneIG-Bench.csv`, `basic_edit.json` of
    ImgEdit, the data set's folder of GEdit-Bench, `meta_data.json` of MJHQ-30K."""
    pictures: Annotated[str | None, NUMBERS] = None
    """Folder that the paths of an editing benchmark's pictures begin in, where they stand apart from the prompts."""
    export: Annotated[str | None, NUMBERS] = None
    """Folder of an exported model to draw with, instead of a stage of the run."""
    stage: Annotated[StageName | None, NUMBERS] = None
    """Stage whose model draws; where none is named: the last finished of stage1 to stage4, or `edit` for edits."""
    model_name: Annotated[str | None, NUMBERS] = None
    """What the model is called in paths and tables; where left out: the name of the run."""
    images_per_prompt: Annotated[int | None, NUMBERS] = Field(None, ge=1)
    """Pictures of each prompt; where left out: as many as the benchmark's published figures are of."""
    side: Annotated[int | None, NUMBERS] = Field(None, ge=1)
    """Pixels of both sides of a picture; where left out: the model's resolution. Edits have their source's bucket."""
    first: Annotated[int | None, HOW_FAR] = Field(None, ge=1)
    """Only so many prompts, the first ones, to see how it goes; what is drawn stays when the others follow."""
    language: Annotated[Literal["en", "cn"], NUMBERS] = "en"
    """Of the instructions of GEdit-Bench."""
    judge: Annotated[JudgeConfig, HOW] = JudgeConfig()
    clip: Annotated[str | None, HOW] = None
    """Folder of a CLIP checkpoint that measures how well pictures fit their prompts, 100 times the cosine; none: it is
    not measured."""
    sampler: Annotated[SamplerConfig, NUMBERS] = SamplerConfig(steps=50)
    compile: Annotated[bool, HOW] = False
    """Compile the model's blocks: a minute at the start, for many pictures on a GPU."""
    batch_size: Annotated[int, HOW] = Field(16, ge=1)
    """Pictures drawn together by one actor; how many actors there are is `cluster.generate`."""
