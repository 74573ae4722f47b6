"""What is to be drawn: which stage's model, which prompts, which seeds, which sizes."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mos.data.buckets import Bucket, aspect_buckets, assign
from mos.data.decode import decode_image
from mos.data.reasons import Rejected
from mos.errors import UserError
from mos.evaluation.cases import shown_prompts, stored_captions
from mos.sampling.config import StageName
from mos.sampling.pictures import picture_size
from mos.sampling.prompts import read_prompts
from mos.tables import TableVersion
from pipelines.run_config import RunConfig
from pipelines.steps import require_step

TEXT_STAGES: tuple[StageName, ...] = ("stage1", "stage2", "stage3", "stage4")


@dataclass(frozen=True)
class Request:
    """A picture to be drawn."""

    model: str
    """Stage whose export draws it, or the folder of an export."""
    prompt: str
    seed: int
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    negative_prompt: str = ""
    source: bytes | None = None
    """Encoded picture to edit."""


def text_stage(config: RunConfig, named: StageName | None) -> StageName:
    """The stage that draws from text: the one named, else the last of stage1 to stage4 that is finished.

    Raises:
        UserError: the named stage, or every stage, is unfinished.
    """
    if named is not None:
        require_step(named, config)
        return named
    for name in reversed(TEXT_STAGES):
        if getattr(config, name) is not None and is_finished(config, name):
            return name
    raise UserError(
        f"config {config.name!r} has no finished stage to draw with: run `python pipelines/stage1.py` first"
    )


def is_finished(config: RunConfig, stage: str) -> bool:
    """Whether a training stage, and all that it stands on, is finished for this config."""
    try:
        require_step(stage, config)
    except UserError:
        return False
    return True


def export_folder(config: RunConfig, stage: str) -> str:
    """Folder of a finished stage's weights."""
    return str(require_step(stage, config).outputs["export"])


def make_requests(config: RunConfig, stage: str) -> list[Request]:
    """The requests to a stage's model."""
    return requests_to(config, stage, config.stage(stage).resolution, config.curate.token_px)


def requests_to(config: RunConfig, model: str, resolution: int, token_px: int) -> list[Request]:
    """One request for each prompt and repetition, with consecutive seeds.

    Args:
        config: what to draw.
        model: who draws: a stage, or the folder of an export.
        resolution: of that model, in pixels.
        token_px: side of its tokens in pixels.
    """
    sample = config.sample
    source = None if sample.source is None else read_source(config, sample.source)
    height, width = request_size(config, resolution, token_px, source)
    repeated = [prompt for prompt in choose_prompts(config) for _ in range(sample.images_per_prompt)]
    return [
        Request(model, prompt, config.seed + i, height, width, sample.negative_prompt, source)
        for i, prompt in enumerate(repeated)
    ]


def choose_prompts(config: RunConfig) -> list[str]:
    """The prompt or the file that was named, else prompts that suit the run's data."""
    sample = config.sample
    match sample.prompt, sample.prompts:
        case str(), str():
            raise UserError("both prompt and prompts are given: name one of them")
        case str() as prompt, None:
            return [prompt]
        case None, str() as path:
            return read_prompts(path)
    if sample.source is not None:
        raise UserError(f"source = {sample.source!r} has no instruction: say what to change with prompt=...")
    if config.shapes is not None:
        return [prompt.text for prompt in shown_prompts(sample.num_images, config.seed)]
    return stored_captions(TableVersion(**require_step("curate", config).outputs["samples"]), sample.num_images)


def read_source(config: RunConfig, path: str) -> bytes:
    """Bytes of the picture to edit, once it is known to decode."""
    try:
        data = Path(path).read_bytes()
        decode_image(data, config.curate.image)
    except OSError as error:
        raise UserError(f"source {path} cannot be read: {error.strerror}") from error
    except Rejected as rejected:
        raise UserError(f"source {path} is not a picture that can be edited: {rejected}") from rejected
    return data


def request_size(config: RunConfig, resolution: int, token_px: int, source: bytes | None) -> tuple[int, int]:
    """(height, width): as given, else the source's nearest bucket, else the model's square."""
    sample = config.sample
    if source is None or sample.height is not None or sample.width is not None:
        return picture_size(sample.height, sample.width, resolution, token_px)
    buckets = aspect_buckets(resolution, token_px, config.curate.bucket_aspect)
    bucket = nearest(buckets, decode_image(source, config.curate.image))
    return bucket.height, bucket.width


def bucket_of(config: RunConfig, stage: str, picture: Image.Image) -> Bucket:
    """The bucket of a stage's resolution nearest to a picture's aspect, whatever the picture's size."""
    curate = config.curate
    return nearest(aspect_buckets(config.stage(stage).resolution, curate.token_px, curate.bucket_aspect), picture)


def nearest(buckets: tuple[Bucket, ...], picture: Image.Image) -> Bucket:
    """The bucket nearest to a picture's aspect, whatever the picture's size."""
    bucket = assign(picture.width, picture.height, buckets, max_upscale=float("inf"))
    assert bucket is not None
    return bucket
