"""Captions, and the images to edit, -> hidden states of all layers, written as fragments of a states table."""

from collections.abc import Iterator

import pyarrow as pa
import torch
from PIL import Image

from mos.data.decode import ImageLimits, decode_image
from mos.data.encode_plan import NO_IMAGE
from mos.data.encoded import states_schema, write_encoded
from mos.data.reasons import Rejected
from mos.encoders.encoding import EncodeConfig
from mos.encoders.understanding import Encoded, load_tower
from mos.states.payload import state_format
from mos.tables import TableVersion


class EncodeStates:
    """Callable class for `Dataset.map_batches` on Arrow tables; holds the tower. One call writes one fragment.

    Reads   context_key, text, row (CONTEXT_TASKS of mos.data.encode_plan)
    Writes  fragment, keys, failed_keys, failures (ENCODED of mos.data.encoded); the states go to the table itself
    """

    def __init__(self, config: EncodeConfig, samples: TableVersion, uri: str, limits: ImageLimits) -> None:
        torch.set_num_threads(config.actors.threads_per_actor)
        self._tower = load_tower(config.tower, config.actors.device)
        num_states, dim = self._tower.num_layers + 1, self._tower.dim
        self._format = state_format(config.state_format, num_states, dim)
        self._schema = states_schema(self._tower.tower_id, num_states, dim, config.state_format)
        self._samples = samples.open()
        self._uri = uri
        self._limits = limits
        self._batch_size = config.contexts_per_batch

    def __call__(self, tasks: pa.Table) -> pa.Table:
        """Encode the contexts of one block in small batches of neighbours."""
        failures: dict[str, str] = {}
        rows: list[dict] = []
        for start in range(0, tasks.num_rows, self._batch_size):
            rows += self._encode(tasks.slice(start, self._batch_size).to_pylist(), failures)
        return write_encoded(self._uri, pa.Table.from_pylist(rows, schema=self._schema), failures)

    def _encode(self, tasks: list[dict], failures: dict[str, str]) -> Iterator[dict]:
        """Rows of the states table for one forward pass; what cannot be encoded goes to `failures`."""
        images = self._read_images(tasks, failures)
        readable = [task for task in tasks if task["context_key"] not in failures]
        if not readable:
            return
        shown = [images.get(task["row"]) for task in readable]
        contexts = self._tower.encode([task["text"] for task in readable], shown)
        for task, context in zip(readable, contexts, strict=True):
            if context.states.isfinite().all():
                yield self._row(task["context_key"], context)
            else:
                failures[task["context_key"]] = "the tower's states are not finite"

    def _row(self, key: str, context: Encoded) -> dict:
        payload = self._format.pack(context.states)
        return {"context_key": key, "num_tokens": len(context.tokens), "payload": payload}

    def _read_images(self, tasks: list[dict], failures: dict[str, str]) -> dict[int, Image.Image]:
        """Decoded references by samples row."""
        wanted = sorted({task["row"] for task in tasks} - {NO_IMAGE})
        if not wanted:
            return {}
        images, reasons = {}, {}
        column = self._samples.take(wanted, columns=["reference"]).column("reference")
        for row, data in zip(wanted, column, strict=True):
            try:
                images[row] = decode_image(data.as_py(), self._limits)
            except Rejected as rejected:
                reasons[row] = str(rejected)
        failures |= {task["context_key"]: reasons[task["row"]] for task in tasks if task["row"] in reasons}
        return images
