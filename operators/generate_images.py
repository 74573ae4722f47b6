"""Prompts, and pictures to edit, in; pictures out."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from PIL import Image

from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.sampling.config import SamplerConfig
from mos.sampling.draw import draw_pictures, load_for_drawing
from mos.sampling.pictures import to_png
from mos.sampling.pipeline import MoSPipeline
from mos.sampling.prompts import CutPromptWarning


@dataclass(frozen=True)
class Drawn:
    """What came of a row."""

    image: Image.Image | None = None
    """None where there is a problem."""
    notices: tuple[str, ...] = ()
    problem: str | None = None


class GenerateImages:
    """Draws a picture for each row; each model is loaded when its first row comes, and kept.

    A row's picture depends on that row alone, so a retried batch gives the same pictures.

    Reads   model, prompt, negative_prompt, seed, height, width, source (bytes of a picture to edit, or null), guidance
            (null, or no such column: the sampler's)
    Writes  image: PNG bytes, null where there is a problem; notices: what of its prompts the model never sees;
            problem: why the row cannot be drawn, else null
    """

    def __init__(
        self,
        exports: Mapping[str, str],
        sampler: SamplerConfig,
        device: str,
        compile: bool = False,
        limits: ImageLimits | None = None,
    ) -> None:
        """Keep what to draw with.

        Args:
            exports: folder of each model's export.
            sampler: the solver's settings.
            device: of torch.
            compile: whether to compile the models.
            limits: what pictures to edit are held to.
        """
        self._exports = exports
        self._sampler = sampler
        self._device = device
        self._compile = compile
        self._limits = limits
        self._pipelines: dict[str, MoSPipeline] = {}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Draw the pictures of a batch, rows of one kind at a time."""
        drawn = self.draw(batch.to_pylist())
        images = [None if row.image is None else to_png(row.image) for row in drawn]
        batch = batch.append_column("image", pa.array(images, pa.large_binary()))
        batch = batch.append_column("notices", pa.array([list(row.notices) for row in drawn], pa.list_(pa.string())))
        return batch.append_column("problem", pa.array([row.problem for row in drawn], pa.string()))

    def draw(self, rows: Sequence[Mapping[str, Any]]) -> list[Drawn]:
        """What comes of each row, which has what is read; rows of one kind are drawn together."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for position, row in enumerate(rows):
            alike = (row["model"], row["height"], row["width"], row["source"] is None, row.get("guidance"))
            groups.setdefault(alike, []).append(position)
        drawn = [Drawn()] * len(rows)
        for positions in groups.values():
            try:
                pictures = self._draw([rows[position] for position in positions])
            except UserError as error:
                for position in positions:
                    drawn[position] = Drawn(problem=str(error))
                continue
            for position, picture in zip(positions, pictures, strict=True):
                drawn[position] = Drawn(picture, tuple(self._notices(rows[position])))
        return drawn

    def _draw(self, rows: list[Mapping[str, Any]]) -> list[Image.Image]:
        """Draw rows that share model, size and guidance."""
        first, guidance = rows[0], rows[0].get("guidance")
        sampler = self._sampler if guidance is None else self._sampler.model_copy(update={"guidance": guidance})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CutPromptWarning)  # a worker's stderr is nobody's: see `notices`
            return draw_pictures(
                self._pipeline(first["model"]),
                [row["prompt"] for row in rows],
                height=first["height"],
                width=first["width"],
                seed=[row["seed"] for row in rows],
                negative_prompt=[row["negative_prompt"] for row in rows],
                image=None if first["source"] is None else [row["source"] for row in rows],
                batch_size=len(rows),
                sampler=sampler,
            )

    def _notices(self, row: Mapping[str, Any]) -> list[str]:
        return self._pipeline(row["model"]).cut_notices([row["prompt"], row["negative_prompt"]])

    def _pipeline(self, model: str) -> MoSPipeline:
        if model not in self._pipelines:
            self._pipelines[model] = load_for_drawing(
                self._exports[model], limits=self._limits, device=self._device, compile=self._compile
            )
        return self._pipelines[model]
