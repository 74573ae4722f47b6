"""Prompts, and paths of pictures to edit, in; PNG files out: for more pictures than a driver could hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from mos.files import written_whole
from mos.fingerprint import file_digest
from mos.images.decode import ImageLimits
from mos.sampling.config import SamplerConfig
from mos.sampling.recipe import Recipe
from operators.generate_images import Drawn, GenerateImages


class DrawFiles:
    """Draws a picture for each row and writes it, with its recipe inside, whole or not at all.

    A row's file depends on that row alone, so a retried batch writes the same files.

    Reads   path, in a folder that every node sees; model, prompt, negative_prompt, seed, height, width (null: as the
            model has them), source (path of a picture to edit, or null)
    Writes  path; notices: what of its prompts the model never sees; problem: why there is no file, else null
    """

    def __init__(
        self, exports: Mapping[str, str], models: Mapping[str, str], sampler: SamplerConfig, device: str,
        compile: bool, limits: ImageLimits,
    ) -> None:  # fmt: skip
        """Keep what to draw with.

        Args:
            exports: folder of each model's export.
            models: fingerprint of each.
            sampler: the solver's settings.
            device: of torch.
            compile: whether to compile the models.
            limits: what pictures to edit are held to.
        """
        self._draw = GenerateImages(exports, sampler, device, compile, limits).draw
        self._models = dict(models)
        self._sampler = sampler

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Draw and write the pictures of a batch."""
        rows = batch.to_pylist()
        readable = [(row, _encoded(row["source"])) for row in rows]
        opened = [{**row, "source": encoded} for row, encoded in readable if not isinstance(encoded, Drawn)]
        drawn = iter(self._draw(opened))
        found = [encoded if isinstance(encoded, Drawn) else next(drawn) for _, encoded in readable]
        for row, result in zip(rows, found, strict=True):
            if result.image is not None:
                self._write(row, result)
        return pa.table(
            {
                "path": batch.column("path"),
                "notices": pa.array([list(result.notices) for result in found], pa.list_(pa.string())),
                "problem": pa.array([result.problem for result in found], pa.string()),
            }
        )

    def _write(self, row: Mapping[str, Any], drawn: Drawn) -> None:
        path, source = Path(row["path"]), row["source"]
        assert drawn.image is not None
        recipe = Recipe(
            prompt=row["prompt"],
            negative_prompt=row["negative_prompt"],
            seed=row["seed"],
            height=drawn.image.height,
            width=drawn.image.width,
            sampler=self._sampler,
            model=self._models[row["model"]],
            source=None if source is None else file_digest(source),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            drawn.image.save(partial, format="PNG", pnginfo=recipe.png_info())


def _encoded(source: str | None) -> bytes | Drawn | None:
    """Bytes of a picture to edit, or why there are none."""
    if source is None:
        return None
    try:
        return Path(source).read_bytes()
    except OSError as error:
        return Drawn(problem=f"picture to edit {source} cannot be read: {error.strerror}")
