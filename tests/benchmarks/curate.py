"""Curation: Ray Data against a loop over two processes, and rejection by header against decoding.

    python -m tests.benchmarks.curate [repeats]

Both sides of `curate.ratio` read the same units with the same functions and end with a committed table; the start of
Ray and that of the two processes are left out. The photographs of ../shared/data are part of it where they are there.
"""

import io
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterable
from itertools import count
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from cluster.config import ClusterConfig
from cluster.session import ray_session
from mos.checkout import CLONE
from mos.curation.config import CurateConfig
from mos.curation.hashing import pair_id, perceptual_hash, sample_id
from mos.curation.items import Item
from mos.curation.manifest import manifest_of, marks_schema
from mos.curation.shards import read_unit
from mos.curation.sources import FolderSource, SourceConfig, Unit, WebDatasetSource, list_units
from mos.curation.tables import SampleTables, add_marks, open_sample_tables
from mos.fingerprint import sha256_hex
from mos.images.buckets import Bucket, assign
from mos.images.decode import ImageLimits, decode_image, decode_with_header
from mos.images.measure import MEASURE_SIDE_PX, measure
from mos.images.reasons import Reason, Rejected
from mos.shapes.dataset import ShapesConfig, write_shards
from mos.tables.lance import write_rows
from mos.tables.schema import samples_schema
from operators.write_samples import WriteSamples, fragment_name
from pipelines.curate import curation
from tests.benchmarks.harness import Row, measure_interleaved, write_results

Buckets = dict[int, tuple[Bucket, ...]]

PHOTOS = CLONE.parent / "shared" / "data" / "photos"
NUM_SHAPES = 5000
NUM_PROCESSES = 2
OVERSIZED_PX = 9000


def main() -> None:
    """Measure both rows and record them."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    write_results("curate", [measure_ratio(repeats), measure_reject(repeats)])


def measure_ratio(repeats: int) -> Row:
    """Rows per second through Ray Data, against the hand-written loop."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_shards(ShapesConfig(num_scenes=NUM_SHAPES, num_edits=0), root / "shards")
        config = CurateConfig(sources=sources(root / "shards"), resolutions=(32, 48, 64), token_px=4)
        units = list_units(config.sources, CLONE, config.files_per_unit)
        number = count()
        context = multiprocessing.get_context("spawn")
        with ray_session(ClusterConfig(num_cpus=NUM_PROCESSES)), context.Pool(NUM_PROCESSES) as pool:
            candidates = {
                "ray": lambda: with_ray(config, units, root / str(next(number))),
                "loop": lambda: with_loop(pool, config, units, root / str(next(number))),
            }
            read, kept = zip(*(run() for run in candidates.values()), strict=True)
            assert read[0] == read[1]
            assert kept[0] == kept[1]
            seconds = measure_interleaved(candidates, repeats)
    ours, theirs = read[0] / seconds["ray"], read[0] / seconds["loop"]
    return Row("curate.ratio", ours, "rows/s", f"loop of {NUM_PROCESSES} processes", theirs, ours / theirs, repeats)


def sources(shards: Path) -> list[SourceConfig]:
    """The drawn shards, and the photographs where there are some."""
    drawn = WebDatasetSource(type="webdataset", name="shapes", paths=(str(shards / "pairs-*.tar"),))
    if not PHOTOS.is_dir():
        print(f"{PHOTOS} is not there: shapes only")
        return [drawn]
    return [drawn, FolderSource(name="photos", path=f"{PHOTOS}/images", captions=f"{PHOTOS}/captions.jsonl")]


def with_ray(config: CurateConfig, units: list[Unit], root: Path) -> tuple[int, int]:
    """The pipeline's own way."""
    uri = f"{root}/samples.lance"
    tables = open_sample_tables(uri, f"{root}/rejects.lance", config.resolutions, None)
    dataset = curation(config, units, WriteSamples(uri, config.resolutions).__call__)
    return committed(dataset.iter_batches(batch_size=None, batch_format="pyarrow"), tables, config)


def with_loop(pool: Pool, config: CurateConfig, units: list[Unit], root: Path) -> tuple[int, int]:
    """One function over all units, two at a time."""
    uri = f"{root}/samples.lance"
    tables = open_sample_tables(uri, f"{root}/rejects.lance", config.resolutions, None)
    return committed(pool.imap_unordered(curate_unit, [(unit, config, uri) for unit in units]), tables, config)


def committed(parts: Iterable[pa.Table], tables: SampleTables, config: CurateConfig) -> tuple[int, int]:
    """Items read and kept, once both tables are there."""
    with manifest_of(marks_schema(config.resolutions)) as marks:
        for part in parts:
            marks.add(part)
        marks.refuse_copies(None, config.duplicates.near_bits)
        found = add_marks(tables, marks, [], "")
    return found.read, found.kept


def curate_unit(task: tuple[Unit, CurateConfig, str]) -> pa.Table:
    """Read, decode, measure, bucket and write one unit, item by item."""
    unit, config, uri = task
    (source,) = [source for source in config.sources if source.name == unit.source]
    buckets = config.buckets()
    marks, kept = [], []
    for place, item in enumerate(read_unit(unit, source, config)):
        mark = {"source": unit.source, "shard": unit.shard, "key": item.key, "unit": unit.index}
        mark["order"] = unit.index << 32 | place
        try:
            if item.refusal is not None:
                raise item.refusal
            row = measure_item(item, mark, config, buckets)
            marks.append(mark | {name: row[name] for name in ("sample_id", "pair", "phash")})
            marks[-1]["place"] = len(kept)
            marks[-1] |= {f"bucket_{side}": row[f"bucket_{side}"] for side in buckets}
            kept.append(row)
        except Rejected as refusal:
            marks.append(mark | {"reason": str(refusal.reason), "detail": refusal.detail})
    if kept:
        (fragment,) = write_rows(uri, pa.Table.from_pylist(kept, schema=samples_schema(config.resolutions)))
        written = [mark for mark in marks if "place" in mark]
        written[0]["fragment"] = fragment
        for mark in written:
            mark["fragment_name"] = fragment_name(fragment)
    return pa.Table.from_pylist(marks, schema=marks_schema(config.resolutions))


def measure_item(item: Item, mark: dict[str, Any], config: CurateConfig, buckets: Buckets) -> dict[str, Any]:
    """The samples row of one item."""
    header, picture = decode_with_header(item.image, config.image, MEASURE_SIDE_PX)
    luma = np.asarray(picture.convert("L"))
    scores, image_hash = measure(luma), sha256_hex(item.image)
    found = {side: assign(header.width, header.height, shapes, config.max_upscale) for side, shapes in buckets.items()}
    if not any(found.values()):
        raise Rejected(Reason.BUCKET_NONE, f"{header.width}x{header.height} px")
    return {
        "sample_id": sample_id(image_hash, None, item.caption),
        "task": "generate",
        "source": mark["source"],
        "shard": mark["shard"],
        "key": item.key,
        "image": item.image,
        "image_hash": image_hash,
        "caption": item.caption,
        "width": header.width,
        "height": header.height,
        "aspect": header.width / header.height,
        "caption_length": len(item.caption),
        "caption_words": len(item.caption.split()),
        "sharpness": scores.sharpness,
        "contrast": scores.contrast,
        "entropy": scores.entropy,
        "pair": pair_id(None, item.caption),
        "phash": perceptual_hash(luma),
        "meta": item.meta,
    } | {f"bucket_{side}": bucket and str(bucket) for side, bucket in found.items()}


def measure_reject(repeats: int) -> Row:
    """Microseconds to refuse an oversized JPEG by its header, against decoding it."""
    levels = np.linspace(0, 255, OVERSIZED_PX).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.broadcast_to(levels, (OVERSIZED_PX, OVERSIZED_PX)).copy()).save(buffer, "JPEG")
    data = buffer.getvalue()
    rejecting, decoding = ImageLimits(), ImageLimits(max_pixels=OVERSIZED_PX**2)
    candidates: dict[str, Callable[[], object]] = {
        "reject": lambda: [refused(data, rejecting) for _ in range(100)],
        "decode": lambda: decode_image(data, decoding),
    }
    seconds = measure_interleaved(candidates, repeats)
    ours, theirs = seconds["reject"] / 100 * 1e6, seconds["decode"] * 1e6
    return Row("curate.reject", ours, "us", "decode the same image", theirs, theirs / ours, repeats)


def refused(data: bytes, limits: ImageLimits) -> None:
    """Make sure that the header alone is enough to refuse the image."""
    reason = None
    try:
        decode_image(data, limits)
    except Rejected as refusal:
        reason = refusal.reason
    assert reason == Reason.IMAGE_TOO_MANY_PIXELS


if __name__ == "__main__":
    main()
