"""What is drawn of one prompt of a benchmark, and the files that its scorer reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

IMAGES = "images"
"""Folder that a scorer is given; it holds what the scorer reads and nothing else."""
SINGLES = "singles"
"""Folder of pictures that a scorer reads as cells of a grid alone."""


@dataclass(frozen=True)
class Grid:
    """Pictures of one prompt in one file, in reading order."""

    path: str
    """Below the benchmark's folder; its ending says the format."""
    columns: int


@dataclass(frozen=True)
class Item:
    """One prompt; all paths are below the benchmark's folder."""

    where: str
    """File and line of the prompt."""
    prompt: str
    pictures: tuple[str, ...]
    """A PNG for each picture."""
    grid: Grid | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    """Further files that the scorer reads: path -> content."""
    source: Path | None = None
    """Picture to edit."""
    prepared: tuple[str, ...] = ()
    """Files that `Benchmark.prepare` writes."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of it."""
        return (*self.pictures, *(() if self.grid is None else (self.grid.path,)), *self.texts, *self.prepared)


def compose(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """One picture of several, in reading order, edge to edge; a last row that is not full ends in black."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * width, rows * height))
    for place, picture in enumerate(pictures):
        grid.paste(picture, (place % columns * width, place // columns * height))
    return grid
