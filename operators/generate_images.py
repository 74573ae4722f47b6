"""Prompts, and pictures to edit, in; pictures out."""

import io
from collections.abc import Mapping

import pyarrow as pa
from PIL import Image

from mos.sampling.config import SamplerConfig
from mos.sampling.pictures import to_png
from mos.sampling.pipeline import MosPipeline


class GenerateImages:
    """Draws a picture for each row; each model is loaded when its first row comes, and kept.

    A row's picture depends on that row alone, so a retried batch gives the same pictures.

    Reads   model, prompt, negative_prompt, seed, height, width, source (bytes of a picture to edit, or null)
    Writes  image: PNG bytes
    """

    def __init__(self, exports: Mapping[str, str], sampler: SamplerConfig, device: str, compile: bool = False) -> None:
        """Take the folder of each model's export, the solver's settings, the torch device, and whether to compile."""
        self._exports = exports
        self._sampler = sampler
        self._device = device
        self._compile = compile
        self._pipelines: dict[str, MosPipeline] = {}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Draw the pictures of a batch, rows of one kind at a time."""
        rows = batch.to_pylist()
        groups: dict[tuple[object, ...], list[int]] = {}
        for position, row in enumerate(rows):
            alike = (row["model"], row["negative_prompt"], row["height"], row["width"], row["source"] is None)
            groups.setdefault(alike, []).append(position)
        images = [b""] * len(rows)
        for positions in groups.values():
            pictures = self._draw([rows[position] for position in positions])
            for position, picture in zip(positions, pictures, strict=True):
                images[position] = to_png(picture)
        return batch.append_column("image", pa.array(images, pa.large_binary()))

    def _draw(self, rows: list[dict]) -> list[Image.Image]:
        """Draw rows that share model, size and negative prompt."""
        first = rows[0]
        sources = [Image.open(io.BytesIO(row["source"])) for row in rows] if first["source"] else None
        return self._pipeline(first["model"])(
            [row["prompt"] for row in rows],
            height=first["height"],
            width=first["width"],
            seed=[row["seed"] for row in rows],
            negative_prompt=first["negative_prompt"],
            reference=sources,
            batch_size=len(rows),
            progress=False,
            **self._sampler.model_dump(),
        )

    def _pipeline(self, model: str) -> MosPipeline:
        if model not in self._pipelines:
            self._pipelines[model] = MosPipeline.from_export(
                self._exports[model], device=self._device, compile=self._compile
            )
        return self._pipelines[model]
