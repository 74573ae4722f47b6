"""Paths of pictures in, files of several of them out."""

from pathlib import Path

import pyarrow as pa
from PIL import Image

from mos.benchmarks.item import compose
from mos.files import written_whole


def write_grids(batch: pa.Table) -> pa.Table:
    """Write each grid from its pictures, whole or not at all, and as they are: WebP without loss, too.

    Reads   path of the grid, PNG or WebP by its ending; pictures: paths, in reading order; columns
    Writes  path
    """
    for row in batch.to_pylist():
        path, pictures = Path(row["path"]), [_opened(name) for name in row["pictures"]]
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            grid = compose(pictures, row["columns"])
            if path.suffix == ".webp":
                grid.save(partial, format="WEBP", lossless=True)
            else:
                grid.save(partial, format="PNG")
    return batch.select(["path"])


def _opened(path: str) -> Image.Image:
    with Image.open(path, formats=("PNG",)) as image:
        return image.convert("RGB")
