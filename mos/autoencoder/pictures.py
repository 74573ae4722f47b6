"""Pictures of one resolution, by step and rank: the same samples at any number of ranks, however often resumed."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import UInt8
from torch import Tensor

from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.images.pixels import prepare_image
from mos.images.reasons import Rejected
from mos.tables.lance import TableVersion


@dataclass(frozen=True)
class PictureIndex:
    """Rows of the samples table that have a bucket of one resolution."""

    training: dict[str, np.ndarray]
    """Row numbers by bucket."""
    held_out: dict[str, np.ndarray]

    def count(self) -> tuple[int, int]:
        """Pictures to train on, and held out."""
        return sum(map(len, self.training.values())), sum(map(len, self.held_out.values()))


def index_pictures(samples: TableVersion, resolution: int, held_out: float) -> PictureIndex:
    """Split the pictures by their own hash: which of them are held out stays the same when others are added.

    Raises:
        UserError: no picture, or none to hold out, has a bucket of this resolution.
    """
    dataset = samples.open()
    column = f"bucket_{resolution}"
    if column not in dataset.schema.names:
        raise UserError(f"the samples table has no {column}: choose codec.resolution from curate.resolutions")
    rows = dataset.scanner(columns=["image_hash", column], scan_in_order=True).to_table()
    buckets = rows[column].to_pylist()
    held = [int(image_hash[:8], 16) < held_out * 16**8 for image_hash in rows["image_hash"].to_pylist()]
    parts: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
    for row, (bucket, is_held) in enumerate(zip(buckets, held, strict=True)):
        if bucket is not None:
            parts[is_held].setdefault(bucket, []).append(row)
    training, out = ({name: np.array(found) for name, found in sorted(part.items())} for part in parts)
    if not training or not out:
        raise UserError(
            f"{len(buckets)} samples have {sum(map(len, training.values()))} pictures to train on and "
            f"{sum(map(len, out.values()))} to hold out at {resolution} px: curate more, or raise codec.held_out"
        )
    return PictureIndex(training, out)


class Pictures:
    """Reads pictures of the samples table as the encode step does."""

    def __init__(self, samples: TableVersion, limits: ImageLimits, index: PictureIndex, seed: int) -> None:
        self._samples = samples.open()
        self._limits = limits
        self._buckets = list(index.training)
        self._rows = index.training
        self._shares = np.array([len(rows) for rows in index.training.values()], dtype=float)
        self._seed = seed

    def batch(self, step: int, size: int, rank: int, num_ranks: int) -> UInt8[Tensor, "share 3 height width"]:
        """One rank's share of a step's batch, which lies in one bucket, chosen as often as it has pictures."""
        rng = np.random.default_rng((self._seed, step))
        bucket = self._buckets[rng.choice(len(self._buckets), p=self._shares / self._shares.sum())]
        rows = rng.choice(self._rows[bucket], size)
        return self.read(rows[rank * size // num_ranks : (rank + 1) * size // num_ranks], bucket)

    def read(self, rows: np.ndarray, bucket: str) -> UInt8[Tensor, "rows 3 height width"]:
        """Pictures of rows; one that cannot be decoded gives way to the next that can.

        Raises:
            UserError: none of them can be decoded.
        """
        distinct, indices = np.unique(rows, return_inverse=True)
        data: pa.ChunkedArray = self._samples.take(distinct.tolist(), columns=["image"]).column("image")
        pictures = [self._prepare(encoded.as_py(), bucket) for encoded in data]
        sound = [picture for picture in pictures if picture is not None]
        if not sound:
            raise UserError(f"not one of {len(distinct)} pictures could be decoded: curate again")
        filled = [picture if picture is not None else sound[n % len(sound)] for n, picture in enumerate(pictures)]
        return torch.stack([filled[index] for index in indices])

    def _prepare(self, data: bytes, bucket: str) -> UInt8[Tensor, "3 height width"] | None:
        try:
            return prepare_image(data, bucket, self._limits)
        except Rejected:
            return None
