"""Config of the curate step: sources, limits, buckets, duplicates, scorers."""

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from mos.config import StrictConfig
from mos.curation.captions import CaptionLimits
from mos.curation.sources import SourceConfig
from mos.fingerprint import fingerprint
from mos.images.buckets import Bucket, aspect_buckets
from mos.images.decode import ImageLimits
from mos.workers import WorkerConfig


class ShardLimits(StrictConfig):
    """Limits of a tar, beyond which the rest of it is refused."""

    max_members: int = Field(1_000_000, ge=1)
    max_bytes: int = Field(64 * 2**30, ge=1)
    """Uncompressed bytes of all members together."""
    max_ratio: float = Field(200.0, ge=1)
    """Uncompressed over compressed bytes, judged after the first 64 MiB: an archive bomb is far above."""
    max_name_bytes: int = Field(1024, ge=1)
    window_bytes: int = Field(64 * 2**20, ge=0)
    """Bytes of incomplete samples that wait for their other members, where these do not stand side by side."""


class DuplicateConfig(StrictConfig):
    """Rules for duplicates.

    A sample is an image *under a caption*: one picture with two captions makes two samples. The same image bytes with
    the same caption (and, in an edit, the same source image) are always kept once. The copy from the earliest place
    wins, and what an earlier run kept stays.
    """

    near_bits: int = Field(2, ge=0, le=16)
    """Also drop a sample whose perceptual hash differs by at most this many of 64 bits from one with the same caption
    (and the same source image); 0: only exact copies. 2 finds re-encoded and resized copies. Of drawn shapes, whose
    hashes are few, it also drops about 20 distinct scenes of one caption in 1000."""


class ScorerConfig(StrictConfig):
    """A model that scores every kept image, in a pool of actors that each load it once."""

    renamed: ClassVar[Mapping[str, str]] = {"num_actors": "actors.num", "gpus_per_actor": "actors.gpus"}

    path: str
    """Local folder of a CLIP-family checkpoint (safetensors) with its processor and tokenizer."""
    actors: WorkerConfig = WorkerConfig()
    """Each holds the model."""
    batch_size: int = Field(32, ge=1)
    """Images of one forward pass."""


class AestheticConfig(ScorerConfig):
    """A linear head on the unit-length CLIP image embedding, as in the LAION aesthetic predictor."""

    head: str
    """safetensors file with `weight` [1, embedding] and `bias` [1]."""


class CurateConfig(StrictConfig):
    """Raw shards to the `samples` and `rejects` tables."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    resolutions: tuple[int, ...] = Field(min_length=1)
    """Sides of the square buckets, px; one `bucket_<resolution>` column each."""
    token_px: int = Field(gt=0)
    """Side of the square of pixels that becomes one token (codec stride times patch): bucket sides are multiples."""
    bucket_aspect: float = Field(2.0, ge=1)
    """Longest side over shortest side of a bucket."""
    max_upscale: float = Field(1.0, ge=1)
    """How far an image may be enlarged to fill its bucket; beyond it the bucket is null."""
    image: ImageLimits = ImageLimits()
    caption: CaptionLimits = CaptionLimits()
    shard: ShardLimits = ShardLimits()
    duplicates: DuplicateConfig = DuplicateConfig()
    aesthetic: AestheticConfig | None = None
    """Fills the `aesthetic` column; null leaves it null."""
    alignment: ScorerConfig | None = None
    """Fills the `alignment` column with the image-caption cosine; null leaves it null."""
    files_per_unit: int = Field(64, ge=1)
    """Samples of a folder that one task reads."""
    fragment_mb: int = Field(64, ge=1)
    """A task writes a fragment when it holds this many MiB of samples: it bounds a task's memory."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"two sources share a name in {names}: give each its own")
        if len(set(self.resolutions)) < len(self.resolutions):
            raise ValueError(f"a resolution stands twice in {list(self.resolutions)}")
        self.buckets()
        return self

    def buckets(self) -> dict[int, tuple[Bucket, ...]]:
        """The training shapes of each resolution."""
        return {side: aspect_buckets(side, self.token_px, self.bucket_aspect) for side in self.resolutions}

    def settings_id(self) -> str:
        """64 hex digits over all that decides how an item is judged: not where items come from, nor how fast.

        Tables made under other settings are not added to but made anew.
        """
        scorers = {name: _judging(getattr(self, name)) for name in ("aesthetic", "alignment")}
        fields = ("resolutions", "token_px", "bucket_aspect", "max_upscale", "image", "caption", "shard", "duplicates")
        return fingerprint(version=SETTINGS_VERSION, scorers=scorers, **{name: getattr(self, name) for name in fields})


SETTINGS_VERSION = 3
"""Raise it when the code judges or measures an item differently: finished shards are then read again."""


def _judging(scorer: ScorerConfig | None) -> dict[str, str] | None:
    """The part of a scorer's config that decides its scores."""
    return None if scorer is None else scorer.model_dump(include={"path", "head"})
