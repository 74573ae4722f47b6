"""Contexts to hidden states: the tower and the images it needs, for what learns from states and what writes them."""

from collections.abc import Iterator

import torch
from PIL import Image

from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import load_tower
from mos.encoders.understanding import Encoded
from mos.images.decode import ImageLimits, decode_image
from mos.images.reasons import Reason, Rejected
from mos.tables.encode_tasks import NO_IMAGE
from mos.tables.lance import TableVersion


class ContextEncoder:
    """Holds the tower and the pinned samples, whose references it shows to the tower."""

    def __init__(self, config: EncodeConfig, samples: TableVersion, limits: ImageLimits) -> None:
        torch.set_num_threads(config.actors.threads)
        self.tower = load_tower(config.tower, config.actors.device)
        self._samples = samples.open()
        self._limits = limits

    def encode(self, tasks: list[dict], failures: dict[str, str]) -> Iterator[tuple[str, Encoded]]:
        """Key and states of CONTEXT_TASKS, one forward pass at a time; what cannot be encoded goes to `failures`."""
        shown = [task["row"] != NO_IMAGE for task in tasks]
        for indices in self.tower.plan([task["text"] for task in tasks], shown):
            yield from self._encode([tasks[index] for index in indices], failures)

    def _encode(self, tasks: list[dict], failures: dict[str, str]) -> Iterator[tuple[str, Encoded]]:
        images = self._read_images(tasks, failures)
        readable = [task for task in tasks if task["context_key"] not in failures]
        if not readable:
            return
        contexts = self.tower.encode(
            [task["text"] for task in readable], [images.get(task["row"]) for task in readable]
        )
        for task, context in zip(readable, contexts, strict=True):
            if context.states.isfinite().all():
                yield task["context_key"], context
            else:
                failures[task["context_key"]] = str(Rejected(Reason.STATES_NOT_FINITE, f"text {task['text'][:60]!r}"))

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
