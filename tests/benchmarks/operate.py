"""What an operator hands in and takes out: shards against the webdataset library, exports against what was curated.

    python -m tests.benchmarks.operate [repeats]

`wds.parity` counts samples of clean shards that webdataset's reader and ours see alike: key, image, reference, caption.
`wds.read` is our reader's samples/s over its, one process, shards in the page cache, every member read: of small
drawn samples and of files as large as photographs. With names alone (`wds.read.headers`) ours passes over what is not
wanted; the library reads it and throws it away.
`export.roundtrip` counts samples of a view that an export and a second curation lost or changed.
"""

import json
import sys
import tempfile
import tomllib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from webdataset import WebDataset

from cluster.session import ray_session
from mos.curation.archives.tar import read_tar
from mos.curation.config import CurateConfig, ShardLimits
from mos.curation.items import Item
from mos.curation.shards import read_unit
from mos.curation.sources import EditsSource, SourceConfig, WebDatasetSource, list_units
from mos.curation.tables import CurationOutputs
from mos.shapes.dataset import ShapesConfig, write_shards
from mos.tars import tar_written_whole
from pipelines import curate, export
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from tests.benchmarks.harness import CLONE, Row, measure_interleaved, write_results

PICTURES = ("jpg", "png", "webp")
CLEAN = ShapesConfig(num_scenes=4000, num_edits=400, broken_share=0)
NUM_PHOTOS, PHOTO_BYTES = 400, 300_000
"""A shard as of photographs of 1 MP."""
Sample = tuple[str, bytes, bytes | None, str]
"""Key, image, reference, caption."""
COMPARED = ("sample_id", "source", "task", "image_hash", "reference_hash", "caption", "phash", "width", "height")


def main() -> None:
    """Measure all rows and record them."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        write_results("operate", [measure_parity(Path(folder)), *measure_read(Path(folder), repeats)])
        write_results("operate", [measure_roundtrip(Path(folder))])


def measure_parity(folder: Path) -> Row:
    """Samples that both readers see alike, of all."""
    write_shards(CLEAN, folder / "clean")
    alike = total = 0
    for source in sources_of(folder / "clean"):
        paths = [unit.shard for unit in list_units([source], CLONE)]
        ours, theirs = map(of_ours, read_ours(source)), map(of_theirs, read_theirs(paths))
        for one, other in zip(ours, theirs, strict=True):
            alike += one == other
            total += 1
    assert total == CLEAN.num_scenes + CLEAN.num_edits
    return Row("wds.parity", alike, f"of {total}", "webdataset's reader", total, alike / total)


def sources_of(folder: Path) -> tuple[WebDatasetSource, EditsSource]:
    """Pairs and edits of drawn shards."""
    return (
        WebDatasetSource(type="webdataset", name="shapes", paths=(str(folder / "pairs-*.tar"),)),
        EditsSource(type="edits", name="shape-edits", paths=(str(folder / "edits-*.tar"),)),
    )


def read_ours(source: SourceConfig) -> Iterator[Item]:
    """Every candidate, checked, with its caption cleaned: all that curation does before it decodes."""
    config = CurateConfig(sources=(source,), resolutions=(32,), token_px=4)
    for unit in list_units([source], CLONE):
        yield from read_unit(unit, source, config)


def read_theirs(paths: list[str]) -> WebDataset:
    """Every sample as a dict of bytes."""
    return WebDataset(paths, shardshuffle=False)


def of_ours(item: Item) -> Sample | None:
    """None where it was refused."""
    return None if item.image is None or item.caption is None else (item.key, item.image, item.reference, item.caption)


def of_theirs(sample: dict) -> Sample:
    """The same parts of a dict of bytes."""
    record = json.loads(sample.get("json", b"{}"))
    text = sample["txt"].decode() if "txt" in sample else record.get("caption") or record["instruction"]
    image = next(sample[kind] for kind in (*PICTURES, *(f"target.{kind}" for kind in PICTURES)) if kind in sample)
    reference = next((sample[f"source.{kind}"] for kind in PICTURES if f"source.{kind}" in sample), None)
    return sample["__key__"], image, reference, text


def measure_read(folder: Path, repeats: int) -> list[Row]:
    """Samples a second on drawn shards, on shards of photographs, and of names alone."""
    photos = folder / "photos-00000.tar"
    write_photos(photos)
    drawn, _ = sources_of(folder / "clean")
    large = WebDatasetSource(type="webdataset", name="photos", paths=(str(photos),))
    rows = []
    for id, source in (("wds.read", drawn), ("wds.read.photos", large)):
        paths = [unit.shard for unit in list_units([source], CLONE)]
        rows.append(compare(id, paths, lambda source=source: count(read_ours(source)), repeats))
    rows.append(compare("wds.read.headers", [str(photos)], lambda: count_headers(photos), repeats))
    return rows


def compare(id: str, paths: list[str], ours, repeats: int) -> Row:
    """One row; both sides count the samples they saw."""
    num = count(read_theirs(paths))
    assert ours() == num
    seconds = measure_interleaved({"ours": ours, "theirs": lambda: count(read_theirs(paths))}, repeats)
    speed = {name: num / value for name, value in seconds.items()}
    ratio = speed["ours"] / speed["theirs"]
    return Row(id, speed["ours"], "samples/s", "webdataset's reader", speed["theirs"], ratio, repeats)


def count(samples) -> int:
    return sum(1 for _ in samples)


def count_headers(path: Path) -> int:
    """Samples by the names of members, none of which is read."""
    names = (member.name for member in read_tar(str(path), ShardLimits(), lambda name, size: False))
    return len({name.partition(".")[0] for name in names})


def write_photos(path: Path) -> None:
    """A shard with members of the sizes that photographs have."""
    with tar_written_whole(path) as writer:
        for number in range(NUM_PHOTOS):
            image = b"\xff\xd8\xff" + number.to_bytes(4, "big") * (PHOTO_BYTES // 4) + b"\xff\xd9"
            record = json.dumps({"license": "CC0", "width": 1024}).encode()
            caption = f"photograph {number} of a street".encode()
            writer.write({"__key__": f"{number:06d}", "jpg": image, "txt": caption, "json": record})


def measure_roundtrip(folder: Path) -> Row:
    """Samples of a view that are not there, or not the same, after an export and a second curation."""
    config = load_run(CLONE / "tests/small_run.toml", (f"root={folder / 'run'}", "export.filter='width >= 60'"))
    drawn = ShapesConfig(num_scenes=2000, num_edits=300, broken_share=0.05, odd_share=0.1)
    write_shards(drawn, folder / "drawn")
    with ray_session(config.cluster):
        first = curated(of(config, sources_of(folder / "drawn")))
        taken = of(config, sources_of(folder / "drawn"))
        export.main(Run(taken), Namespace(dry_run=False, force=False))
        again = load_run(CLONE / "tests/small_run.toml", (f"root={folder / 'again'}",))
        second = curated(of(again, exported_sources(export.plan(Run(taken)).folder.path)))
    before, after = rows_of(first, "width >= 60"), rows_of(second, None)
    assert len(before) > 1000
    lost = sum(after.get(id) != row for id, row in before.items()) + len(after.keys() - before.keys())
    return Row("export.roundtrip", lost, f"of {len(before)} lost or changed", "the mark", 0, None)


def of(config: RunConfig, sources: tuple) -> RunConfig:
    """The run without drawn data of its own."""
    section = config.curate.model_copy(update={"sources": sources})
    return config.model_copy(update={"shapes": None, "curate": section})


def curated(config: RunConfig) -> CurationOutputs:
    """Tables of a finished curation."""
    curate.main(Run(config), Namespace(dry_run=False, force=False))
    return CurationOutputs.from_outputs(Run(config).require("curate").outputs)


def exported_sources(folder: Path) -> tuple:
    """What `sources.toml` says."""
    kinds = {"edits": EditsSource, "webdataset": WebDatasetSource}
    sections = tomllib.loads((folder / "sources.toml").read_text(encoding="utf-8"))["curate"]["sources"]
    return tuple(kinds[section["type"]](**section) for section in sections)


def rows_of(found: CurationOutputs, where: str | None) -> dict[str, dict]:
    """Rows by sample id, with the bytes of their pictures."""
    columns = [*COMPARED, "image", "reference"]
    rows = found.samples.open().scanner(columns=columns, filter=where).to_table().to_pylist()
    return {row["sample_id"]: row for row in rows}


if __name__ == "__main__":
    main()
