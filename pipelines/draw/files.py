"""Items of a benchmark in, its files out: what is missing is drawn on the pool of actors, what stands is left alone."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import ray

from cluster.data import map_on_actors
from mos.benchmarks.item import Item
from mos.errors import UserError
from mos.files import written_whole
from mos.images.decode import ImageLimits
from mos.sampling.arguments import seeds
from mos.sampling.config import SamplerConfig
from mos.workers import WorkerConfig
from operators.draw_files import DrawFiles
from operators.write_grids import write_grids
from pipelines.draw.requests import print_notices

MODEL = "model"
"""What the one export that draws is called in its rows."""
ROWS = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("model", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("negative_prompt", pa.string()),
        pa.field("seed", pa.uint64()),
        pa.field("height", pa.int64()),
        pa.field("width", pa.int64()),
        pa.field("source", pa.string()),
    ]
)
GRIDS_A_TASK = 16


@dataclass(frozen=True)
class FileRequest:
    """A picture to be drawn into a file."""

    path: str
    prompt: str
    seed: int
    """In [0, 2^64)."""
    source: str | None
    """Path of a picture to edit."""
    side: int | None
    """Pixels of both sides; None: as the model has them."""
    negative_prompt: str = ""

    def row(self) -> dict[str, object]:
        """The columns that `DrawFiles` reads."""
        told = asdict(self)
        side = told.pop("side")
        return told | {"model": MODEL, "height": side, "width": side}


@dataclass(frozen=True)
class Pool:
    """Who draws, and how."""

    export: str
    fingerprint: str
    """Of the export."""
    sampler: SamplerConfig
    workers: WorkerConfig
    batch_size: int
    compile: bool
    limits: ImageLimits


def requests_of(items: Sequence[Item], folder: Path, seed: int, side: int | None) -> list[FileRequest]:
    """A request for each picture that is not there; those of all items, in order, have consecutive seeds."""
    running = iter(seeds(seed, sum(len(item.pictures) for item in items)))
    missing = []
    for item in items:
        source = None if item.source is None else str(item.source)
        for name, own in zip(item.pictures, islice(running, len(item.pictures)), strict=True):
            if not (folder / name).is_file():
                missing.append(FileRequest(str(folder / name), item.prompt, own, source, side))
    return missing


def draw_missing(requests: Sequence[FileRequest], pool: Pool, label: str) -> None:
    """Draw each request into its file, printing progress.

    Raises:
        UserError: some cannot be drawn; the others are there by then.
    """
    if not requests:
        return
    blocks = [
        pa.Table.from_pylist([request.row() for request in requests[start : start + pool.batch_size]], schema=ROWS)
        for start in range(0, len(requests), pool.batch_size)
    ]
    models = {MODEL: pool.fingerprint}
    arguments = ({MODEL: pool.export}, models, pool.sampler, pool.workers.device, pool.compile, pool.limits)
    rows = map_on_actors(
        ray.data.from_arrow(blocks), DrawFiles, arguments, pool.workers, (1, pool.workers.num), key="cluster.generate"
    )
    done, notices, problems = 0, set[str](), list[str]()
    for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
        for row in batch.to_pylist():
            notices.update(row["notices"])
            if row["problem"] is None:
                done += 1
            else:
                problems.append(f"{Path(row['path']).name}: {row['problem']}")
        print(f"{label}: {done}/{len(requests)} pictures", flush=True)
    print_notices(label, sorted(notices))
    if problems:
        more = "" if len(problems) == 1 else f"; {len(problems) - 1} more pictures are missing, too"
        raise UserError(f"{problems[0]}{more}")


def write_missing_grids(items: Sequence[Item], folder: Path) -> None:
    """Each grid that is not there, from pictures that are, on any node."""
    rows = list(_grid_rows(items, folder))
    if rows:
        blocks = [
            pa.Table.from_pylist(rows[start : start + GRIDS_A_TASK]) for start in range(0, len(rows), GRIDS_A_TASK)
        ]
        ray.data.from_arrow(blocks).map_batches(
            write_grids, batch_size=None, batch_format="pyarrow", zero_copy_batch=True
        ).materialize()


def write_texts(items: Sequence[Item], folder: Path) -> None:
    """The files that a scorer reads beside pictures, each whole."""
    for item in items:
        for name, text in item.texts.items():
            path = folder / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                with written_whole(path) as partial:
                    partial.write_text(text, encoding="utf-8")


def missing_files(items: Sequence[Item], folder: Path) -> list[str]:
    """Files of items that are not there."""
    return [name for item in items for name in item.files if not (folder / name).is_file()]


def _grid_rows(items: Sequence[Item], folder: Path) -> Iterator[dict[str, object]]:
    for item in items:
        if item.grid is not None and not (folder / item.grid.path).is_file():
            pictures = [str(folder / name) for name in item.pictures]
            yield {"path": str(folder / item.grid.path), "pictures": pictures, "columns": item.grid.columns}
