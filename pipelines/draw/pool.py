"""Requests in, pictures out: the pool of actors that sample and evaluate draw with."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
from PIL import Image

from cluster.data import map_on_actors
from mos.errors import UserError
from mos.evaluation.router_figure import RouterStory
from mos.images.decode import ImageLimits
from mos.sampling.config import SamplerConfig
from mos.sampling.pictures import from_png
from mos.sampling.trace import RouterTrace
from mos.workers import WorkerConfig
from operators.generate_images import GenerateImages
from operators.trace_router import TraceRouter
from pipelines.draw.requests import Request, print_notices

REQUESTS = pa.schema(
    [
        pa.field("position", pa.int64()),
        pa.field("model", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("negative_prompt", pa.string()),
        pa.field("seed", pa.uint64()),
        pa.field("height", pa.int64()),
        pa.field("width", pa.int64()),
        pa.field("source", pa.large_binary()),
        pa.field("guidance", pa.float64()),
    ]
)


def draw(
    requests: Sequence[Request],
    exports: Mapping[str, str],
    sampler: SamplerConfig,
    *,
    pool: WorkerConfig,
    batch_size: int,
    label: str,
    limits: ImageLimits,
    compile: bool = False,
) -> list[Image.Image]:
    """Draw all requests on a pool of actors, printing progress; pictures come back in the order of the requests.

    Raises:
        UserError: a request cannot be drawn.
    """
    if not requests:
        return []
    alike = sorted(
        range(len(requests)),
        key=lambda i: (requests[i].model, requests[i].height, requests[i].width, requests[i].source is None, i),
    )
    rows = [{"position": i, **asdict(requests[i])} for i in alike]
    blocks = [
        pa.Table.from_pylist(rows[start : start + batch_size], schema=REQUESTS)
        for start in range(0, len(rows), batch_size)
    ]
    pictures: dict[int, Image.Image] = {}
    notices: set[str] = set()
    arguments = (dict(exports), sampler, pool.device, compile, limits)
    for batch in _map_on_pool(GenerateImages, arguments, blocks, pool):
        for row in batch.select(["position", "image", "notices", "problem"]).to_pylist():
            if row["problem"] is not None:
                raise UserError(row["problem"])
            pictures[row["position"]] = from_png(row["image"])
            notices.update(row["notices"])
        print(f"{label}: {len(pictures)}/{len(requests)} pictures", flush=True)
    print_notices(label, sorted(notices))
    return [pictures[position] for position in range(len(requests))]


def trace_router(export: str, prompt: str, sampler: SamplerConfig, *, seed: int, pool: WorkerConfig) -> RouterStory:
    """Draw one picture and bring back every step of it."""
    block = pa.table({"prompt": [prompt], "seed": [seed]})
    [batch] = _map_on_pool(TraceRouter, (export, sampler, pool.device), [block], pool.model_copy(update={"num": 1}))
    [row] = batch.to_pylist()
    noisy, predicted = ([from_png(png) for png in row[name]] for name in ("noisy", "predicted"))
    return RouterStory(prompt, noisy, predicted, RouterTrace.load(io.BytesIO(row["trace"])))


def _map_on_pool(operator: type, arguments: tuple[Any, ...], blocks: list[pa.Table], pool: WorkerConfig) -> Any:
    """Arrow batches of the operator's results as they come; one call of the operator for each block."""
    rows = map_on_actors(ray.data.from_arrow(blocks), operator, arguments, pool, (1, pool.num), key="cluster.generate")
    return rows.iter_batches(batch_size=None, batch_format="pyarrow")
