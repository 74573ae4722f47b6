"""Config of `pipelines/export.py`: which samples leave, in which form, and where to."""

from typing import Literal

from pydantic import Field, field_validator

from mos.config import StrictConfig
from mos.sampling.config import StageName

ExportFormat = Literal["webdataset", "parquet"]


class ExportConfig(StrictConfig):
    """What is written for other trainers, and for curation again."""

    format: ExportFormat = "webdataset"
    """`webdataset`: tars of image, `.txt` caption and `.json` with all else, and an index of the shards of each source;
    `parquet`: a folder that `datasets.load_dataset` loads with its images."""
    path: str | None = None
    """Folder that all nodes see, a relative one stands in the checkout; null: `<root>/exports/<format>`."""
    stage: StageName | None = None
    """Only what this stage trains on; null: every stage's and no stage's."""
    filter: str = ""
    """Only samples that pass this SQL over the columns of the samples table, beside `stage`; empty: all of them."""
    samples_per_shard: int = Field(1000, ge=1)

    @field_validator("path")
    @classmethod
    def _is_folder(cls, path: str | None) -> str | None:
        if path is not None and "://" in path:
            raise ValueError(f"{path} is no folder: name one that every node mounts, and copy it from there")
        return path
