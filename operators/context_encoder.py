"""Contexts to hidden states: the tower and the images it needs, for what learns from states and what writes them."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from PIL import Image

from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import load_tower
from mos.encoders.understanding import Encoded
from mos.images.decode import ImageLimits, decode_image
from mos.images.reasons import Reason, Rejected
from mos.tables.encode_tasks import NO_IMAGE
from mos.tables.lance import TableVersion, open_table


class ContextEncoder:
    """Holds the tower; shows it the references of samples, in the version of their table that a task names."""

    def __init__(self, config: EncodeConfig, samples: TableVersion, limits: ImageLimits) -> None:
        torch.set_num_threads(config.actors.threads)
        self.tower = load_tower(config.tower, config.actors.device)
        self._samples = lru_cache(maxsize=2)(lambda version: open_table(samples.uri, version))
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
            [task["text"] for task in readable], [images.get(_image_of(task)) for task in readable]
        )
        for task, context in zip(readable, contexts, strict=True):
            if context.states.isfinite().all():
                yield task["context_key"], context
            else:
                failures[task["context_key"]] = str(Rejected(Reason.STATES_NOT_FINITE, f"text {task['text'][:60]!r}"))

    def _read_images(self, tasks: list[dict], failures: dict[str, str]) -> dict[tuple[int, int], Image.Image]:
        """Decoded references by samples row and version."""
        wanted = sorted({_image_of(task) for task in tasks if task["row"] != NO_IMAGE})
        images, reasons = {}, {}
        for version in dict.fromkeys(version for version, _ in wanted):
            places = [place for place in wanted if place[0] == version]
            column = self._samples(version).take([row for _, row in places], columns=["reference"]).column("reference")
            for place, data in zip(places, column, strict=True):
                try:
                    images[place] = decode_image(data.as_py(), self._limits)
                except Rejected as rejected:
                    reasons[place] = str(rejected)
        failures |= {task["context_key"]: reasons[_image_of(task)] for task in tasks if _image_of(task) in reasons}
        return images


def _image_of(task: dict) -> tuple[int, int]:
    """Version and row of the image that belongs to a context."""
    return task["version"], task["row"]
