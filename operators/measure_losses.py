"""Encoded samples in, the loss of a trained model on each of them out."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from mos.loader.index import NO_ROW, EncodedTables
from mos.loader.prefetch import prefetch
from mos.losses.parts import MEASURED, MeasuredParts
from mos.losses.sample import LeftOut, measure_sample
from mos.precision import torch_dtype
from mos.sampling.draw import drawing_dtype
from mos.sampling.export import read_export
from mos.states.packed import PackedStates
from mos.tables.payloads import LatentTable, RowCache, StateTable
from mos.workers import WorkerResources

READ_AHEAD = 2
"""Samples: one is read while another is computed."""

TASKS = pa.schema(
    [
        pa.field("address", pa.int64(), nullable=False),  # of the sample in the samples table
        pa.field("state", pa.int64(), nullable=False),  # row of its context in the states table
        pa.field("latent", pa.int64(), nullable=False),  # row of its image in the latents table
        pa.field("reference", pa.int64(), nullable=False),  # row of the image to edit there, or NO_ROW
    ]
)


class MeasureLosses:
    """Callable class for `Dataset.map_batches` on Arrow tables; holds the model. One call writes one part.

    Reads   address, state, latent, reference (TASKS)
    Writes  num, sum, left_out: samples of the part, sum of their losses, how many have none; the losses go to a file of
            the folder (MEASURED of mos.losses.parts)
    """

    def __init__(
        self, export: str, tables: EncodedTables, folder: Path, num_timesteps: int, worker: WorkerResources
    ) -> None:
        """Load the model and open the tables.

        Args:
            export: folder of the weights.
            tables: that the stage was trained on.
            folder: where parts go.
            num_timesteps: see `LossesConfig`.
            worker: what this actor has.
        """
        if not worker.gpus:
            torch.set_num_threads(worker.threads)
        dtype = torch_dtype(drawing_dtype(worker.device))
        self._model = read_export(export).model.to(worker.device, dtype).eval()
        cache = RowCache(0)
        self._states = StateTable(tables.states, cache, self._model.shape.hidden_states)
        self._latents = LatentTable(tables.latents, cache)
        self._parts = MeasuredParts(folder)
        self._num_timesteps = num_timesteps

    def __call__(self, tasks: pa.Table) -> pa.Table:
        """Measure the samples of one part and write it down."""
        found = [
            measure_sample(self._model, latent, states, reference, self._num_timesteps)
            for latent, states, reference in self._read(tasks)
        ]
        losses = [None if isinstance(value, LeftOut) else value for value in found]
        reasons = [str(value) if isinstance(value, LeftOut) else None for value in found]
        part = pa.table([tasks["address"], pa.array(losses, pa.float32()), pa.array(reasons, pa.string())], MEASURED)
        self._parts.write(part)
        measured = [loss for loss in losses if loss is not None]
        return pa.table({"num": [len(found)], "sum": [float(sum(measured))], "left_out": [len(found) - len(measured)]})

    def _read(self, tasks: pa.Table) -> Iterator[tuple[Tensor, PackedStates, Tensor | None]]:
        """Latent, states and reference of each sample, the next ones ahead of their turn."""
        rows = tasks.to_pylist()

        def read(position: int) -> tuple[Tensor, PackedStates, Tensor | None]:
            row = rows[position]
            [states], [latent] = self._states.read([row["state"]]), self._latents.read([row["latent"]])
            reference = None if row["reference"] == NO_ROW else self._latents.read([row["reference"]])[0]
            return latent, states, reference

        return prefetch(read, range(len(rows)), READ_AHEAD)
