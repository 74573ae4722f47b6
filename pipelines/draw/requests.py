"""What is to be drawn: which stage's model, which prompts, which seeds, which sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from mos.errors import UserError
from mos.sampling.arguments import seeds, text
from mos.sampling.config import SamplerConfig, StageName
from mos.sampling.pictures import bucket_size, picture_size
from mos.sampling.prompts import PromptRow, read_rows
from mos.sampling.references import read_reference
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run

SHOWN_NOTICES = 5

TEXT_STAGES: tuple[StageName, ...] = ("stage1", "stage2", "stage3", "stage4")


@dataclass(frozen=True)
class Request:
    """A picture to be drawn."""

    model: str
    """Stage whose export draws it, or the folder of an export."""
    prompt: str
    seed: int
    """In [0, 2^64)."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    negative_prompt: str = ""
    source: bytes | None = None
    """Encoded picture to edit."""
    guidance: float | None = None
    """Scale of its own; None: the sampler's."""

    def sampler(self, general: SamplerConfig) -> SamplerConfig:
        """The solver's settings for this picture."""
        return general if self.guidance is None else general.model_copy(update={"guidance": self.guidance})


def text_stage(run: Run, named: StageName | None) -> StageName:
    """The stage that draws from text: the one named, else the last of stage1 to stage4 that is finished.

    Raises:
        UserError: the named stage, or every stage, is unfinished.
    """
    if named is not None:
        run.require(named)
        return named
    for name in reversed(TEXT_STAGES):
        if name in run.config.stages() and run.is_finished(name):
            return name
    raise UserError(
        f"config {run.config.name!r} has no finished stage to draw with: run `python pipelines/stage1.py` first"
    )


def export_folder(run: Run, stage: str) -> str:
    """Folder of a finished stage's weights."""
    return str(run.require(stage).outputs["export"])


def make_requests(run: Run, stage: str) -> list[Request]:
    """The requests to a stage's model."""
    curate = run.config.curate
    return requests_to(run, stage, run.config.stage(stage).resolution, curate.token_px, curate.bucket_aspect)


def requests_to(run: Run, model: str, resolution: int, token_px: int, bucket_aspect: float) -> list[Request]:
    """One request for each prompt and repetition, with consecutive seeds.

    Args:
        run: its config says what to draw.
        model: who draws: a stage, or the folder of an export.
        resolution: of that model, in pixels.
        token_px: side of its tokens in pixels.
        bucket_aspect: longest side over shortest side of its buckets.
    """
    config, sample = run.config, run.config.sample
    source = None if sample.source is None else read_reference("source", sample.source, config.curate.image)
    encoded = None if sample.source is None else Path(sample.source).read_bytes()
    rows = choose_rows(run)
    running = iter(seeds(config.seed, len(rows) * sample.images_per_prompt))
    requests = []
    for row in rows:
        height, width = row.height or sample.height, row.width or sample.width
        if source is None or height is not None or width is not None:
            size = picture_size(height, width, resolution, token_px)
        else:
            size = bucket_size(source, resolution, token_px, bucket_aspect)
        negative = text(
            "negative_prompt", sample.negative_prompt if row.negative_prompt is None else row.negative_prompt
        )
        own = list(islice(running, sample.images_per_prompt))
        own = own if row.seed is None else seeds(row.seed, sample.images_per_prompt)
        prompt, negative = text("prompt", row.prompt), text("negative_prompt", negative)
        requests += [Request(model, prompt, seed, *size, negative, encoded, row.guidance) for seed in own]
    return requests


def choose_prompts(run: Run) -> list[str]:
    """The prompts of `choose_rows` alone."""
    return [row.prompt for row in choose_rows(run)]


def choose_rows(run: Run) -> list[PromptRow]:
    """The prompt or the file that was named, else prompts that suit the run's data."""
    config, sample = run.config, run.config.sample
    match sample.prompt, sample.prompts:
        case str(), str():
            raise UserError("both prompt and prompts are given: name one of them")
        case str() as prompt, None:
            return [PromptRow(prompt)]
        case None, str() as path:
            return read_rows(path)
    if sample.source is not None:
        raise UserError(f"source = {sample.source!r} has no instruction: say what to change with prompt=...")
    from mos.evaluation.cases import shown_prompts, stored_captions
    from mos.tables.lance import TableVersion

    if config.shapes is not None:
        return [PromptRow(prompt.text) for prompt in shown_prompts(sample.num_images, config.seed)]
    stored = stored_captions(TableVersion(**run.require("curate").outputs["samples"]), sample.num_images)
    return [PromptRow(caption) for caption in stored]


def bucket_of(config: RunConfig, stage: str, picture: Image.Image) -> tuple[int, int]:
    """(height, width) of a stage's bucket nearest to a picture's aspect, whatever the picture's size."""
    curate = config.curate
    return bucket_size(picture, config.stage(stage).resolution, curate.token_px, curate.bucket_aspect)


def print_notices(label: str, notices: Sequence[str]) -> None:
    """The first of what is to be known about the prompts, and how many more there are."""
    for notice in notices[:SHOWN_NOTICES]:
        print(f"{label}: {notice}", flush=True)
    if len(notices) > SHOWN_NOTICES:
        print(f"{label}: the same goes for {len(notices) - SHOWN_NOTICES} more prompts", flush=True)
