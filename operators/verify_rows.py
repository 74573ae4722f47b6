"""Whether rows are still what the encoders give: a sample is encoded again and compared, byte by byte and in value."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from mos.encoders.encoding import EncodeConfig
from mos.images.decode import ImageLimits
from mos.states.packed import PackedStates
from mos.states.quantise import dequantise
from mos.tables.blobs import plain_schema
from mos.tables.encode_plan import plan_contexts, plan_latents
from mos.tables.lance import TableVersion, commit_fragments, create_table, read_column
from mos.tables.lost_files import refuse_lost_files
from mos.tables.payloads import REMEDY, LatentTable, RowCache, StateTable
from mos.tables.runs import Encoding
from operators.encode_latents import EncodeLatents
from operators.encode_states import EncodeStates

SAMPLE_ROWS = 32
"""Rows of each table that are encoded again."""


@dataclass(frozen=True)
class Drift:
    """Differences between the rows of one table and what is encoded now."""

    uri: str
    rows: int
    """Rows compared."""
    identical: int
    """Rows whose values are equal to the last bit."""
    worst: float
    """Largest relative error of a row: norm of the difference over norm of the stored row."""

    def describe(self) -> str:
        """One line."""
        drift = "no drift" if self.identical == self.rows else f"largest relative error of a row {self.worst:.2e}"
        return f"{self.uri}: {self.identical} of {self.rows} rows are encoded to the same values again, {drift}"


def verify_rows(encoded: dict[str, Any], encode: EncodeConfig, limits: ImageLimits) -> list[Drift]:
    """Encode a sample of both tables of a finished encode step again.

    Args:
        encoded: outputs of the step.
        encode: its config, with absolute paths.
        limits: of the images that the encoders see.
    """
    known = Encoding.from_outputs(encoded)
    samples, states, latents = known.samples, known.tables["states"], known.tables["latents"]
    for table in (states, latents):
        refuse_lost_files(table, REMEDY)
    contexts = plan_contexts(samples, known.views, known.sees_images)
    images = plan_latents(samples, known.views, known.codec_id)
    return [
        _verify(encode, limits, samples, states, contexts, EncodeStates, StateTable),
        _verify(encode, limits, samples, latents, images, EncodeLatents, LatentTable),
    ]


def _verify(
    encode: EncodeConfig,
    limits: ImageLimits,
    samples: TableVersion,
    table: TableVersion,
    tasks: pa.Table,
    operator: type[EncodeStates] | type[EncodeLatents],
    reader: type[StateTable] | type[LatentTable],
) -> Drift:
    """Write the sample into a table of its own, with the same codec, by the same operator, and read both."""
    indices = {key: row for row, key in enumerate(read_column(table, tasks.column_names[0]))}
    chosen = tasks.filter(pa.array([key in indices for key in tasks.column(0).to_pylist()], pa.bool_()))
    chosen = chosen.sort_by(tasks.column_names[0]).slice(0, SAMPLE_ROWS)  # keys are hashes: any order of them is random
    with tempfile.TemporaryDirectory() as folder:
        again = create_table(f"{folder}/again.lance", plain_schema(table.open().schema))
        encode_again = operator(encode, samples, again.uri, limits)
        written = [row for part in encode_again(chosen) for row in part.to_pylist()]
        keys = [key for row in written for key in row["keys"]]
        again = commit_fragments(again.uri, [row["fragment"] for row in written if row["fragment"]], len(keys))
        stored = _decoded(reader(table, RowCache(0)).read([indices[key] for key in keys]))
        fresh = _decoded(reader(again, RowCache(0)).read(range(len(keys))))
        identical = sum(torch.equal(old, new) for old, new in zip(stored, fresh, strict=True))
        worst = max((_relative_error(old, new) for old, new in zip(stored, fresh, strict=True)), default=0.0)
    return Drift(table.uri, len(keys), identical, worst)


def _decoded(rows: Sequence[Tensor | PackedStates]) -> list[Tensor]:
    return [row if isinstance(row, Tensor) else dequantise(row) for row in rows]


def _relative_error(old: Tensor, new: Tensor) -> float:
    if old.shape != new.shape:
        return float("inf")
    difference = (old.double() - new.double()).norm()
    error = difference / old.double().norm().clamp_min(torch.finfo(torch.float64).tiny)
    return float(error.nan_to_num(nan=torch.inf))
