"""Config in, WebDataset shards of captioned pictures and edit triples out, with a share of broken items.

What an item is depends on the config and its index alone; equal configs give equal files, byte for byte, under the
same version of Pillow.
"""

import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from PIL import Image
from pydantic import Field, field_validator, model_validator

from mos.config import StrictConfig
from mos.shapes.captions import caption_of
from mos.shapes.defects import EditDefect, Oddity, PairDefect, broken_edit, broken_pair, odd_pair
from mos.shapes.edits import Edit, training_edit
from mos.shapes.layout import CATEGORY_WEIGHTS, stream, training_scene
from mos.shapes.records import Member, Record, write_shard
from mos.shapes.render import render
from mos.shapes.scene import Category, Scene

LEDGER = "broken.json"
"""File beside the shards: key of every broken item -> its defect."""
MAX_ASPECT = 2.0
TEXT_SHARE = 0.2
"""Share of pairs whose caption stands in a `.txt` instead of a `.json`."""
FORMAT_WEIGHTS = {"png": 0.5, "jpg": 0.35, "webp": 0.15}

Kind = TypeVar("Kind")
OnProgress = Callable[[int, int], None]
"""Called with (items written, items in all)."""


class ShapesConfig(StrictConfig):
    """Procedural demo data."""

    num_scenes: int = Field(5000, ge=0)
    """Text-image pairs, broken ones included."""
    num_edits: int = Field(600, ge=0)
    """(source, instruction, target) triples, broken ones included."""
    broken_share: float = Field(0.04, ge=0, le=0.5)
    """Share of pairs and of triples with a defect, each kind in turn."""
    odd_share: float = Field(0.02, ge=0, le=0.5)
    """Share of pairs stored in an unusual but sound way."""
    samples_per_shard: int = Field(500, ge=1)
    seed: int = 0
    """Of the scenes; independent of the run's seed, so that runs of other seeds share their data."""
    min_px: int = Field(48, ge=32)
    """Smallest side of a picture."""
    max_px: int = Field(160, ge=64)
    """Largest side of a picture."""
    square_share: float = Field(0.5, ge=0, le=1)
    """Share of square pictures; the others have any aspect from 1:2 to 2:1."""
    weights: dict[Category, float] = Field(default_factory=lambda: dict(CATEGORY_WEIGHTS))
    """Relative number of pairs of each category; a category that is left out is not drawn."""

    @field_validator("weights")
    @classmethod
    def _some_weight(cls, weights: dict[Category, float]) -> dict[Category, float]:
        if min(weights.values(), default=0) < 0 or sum(weights.values()) <= 0:
            raise ValueError("weights must not be negative, and one of them must be positive")
        return weights

    @model_validator(mode="after")
    def _room_for_every_aspect(self) -> Self:
        if self.max_px < MAX_ASPECT * self.min_px:
            raise ValueError(f"max_px must be at least {MAX_ASPECT:g} x min_px = {MAX_ASPECT * self.min_px:g}")
        return self


@dataclass(frozen=True)
class ShardCounts:
    """Counts of the shards that were written."""

    pairs: int
    """Text-image pairs, broken ones included."""
    edits: int
    """Edit triples, broken ones included."""
    broken: dict[str, int]
    """Items with each defect."""
    shards: int
    bytes: int


@dataclass(frozen=True)
class _Item:
    record: Record
    defect: PairDefect | EditDefect | None


def write_shards(config: ShapesConfig, folder: Path, on_progress: OnProgress = lambda done, total: None) -> ShardCounts:
    """Write `pairs-*.tar`, `edits-*.tar` and the ledger of what is broken; replaces those of an earlier run.

    Args:
        config: What to draw.
        folder: Created where missing; other files in it stay.
        on_progress: Called after each shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = config.num_scenes + config.num_edits
    ledger: dict[str, str] = {}
    written: list[Path] = []
    done = 0
    for name, items in [("pairs", _pairs(config)), ("edits", _edits(config))]:
        for number, shard in enumerate(_chunks(items, config.samples_per_shard)):
            path = folder / f"{name}-{number:05d}.tar"
            write_shard(path, [item.record for item in shard])
            ledger |= {item.record.key: str(item.defect) for item in shard if item.defect is not None}
            written.append(path)
            done += len(shard)
            on_progress(done, total)
    for stale in {*folder.glob("pairs-*.tar"), *folder.glob("edits-*.tar")} - set(written):
        stale.unlink()
    (folder / LEDGER).write_text(json.dumps(ledger, indent=1), encoding="utf-8")
    return ShardCounts(
        pairs=config.num_scenes,
        edits=config.num_edits,
        broken=dict(Counter(ledger.values())),
        shards=len(written),
        bytes=sum(path.stat().st_size for path in written),
    )


def _pairs(config: ShapesConfig) -> Iterator[_Item]:
    """Every pair in order; what a duplicate repeats is the last sound pair before it."""
    defects = _in_turn(list(PairDefect), "pair", config.seed)
    earlier: Record | None = None
    for index in range(config.num_scenes):
        record = pair_record(config, index)
        luck = stream(config.seed, "pair/luck", index).random()
        if luck < config.broken_share and earlier is not None:
            defect = next(defects)
            yield _Item(broken_pair(defect, record, earlier), defect)
            continue
        if luck > 1 - config.odd_share:
            record = odd_pair(stream(config.seed, "pair/oddity", index).choice(list(Oddity)), record)
        yield _Item(record, None)
        earlier = record


def _edits(config: ShapesConfig) -> Iterator[_Item]:
    defects = _in_turn(list(EditDefect), "edit", config.seed)
    for index in range(config.num_edits):
        record = edit_record(config, index)
        if stream(config.seed, "edit/luck", index).random() < config.broken_share:
            defect = next(defects)
            yield _Item(broken_edit(defect, record), defect)
        else:
            yield _Item(record, None)


def pair_record(config: ShapesConfig, index: int) -> Record:
    """Sound pair `index`: a picture and its caption."""
    scene = training_scene(config.seed, index, config.weights)
    rng = stream(config.seed, "pair/file", index)
    caption = caption_of(scene, rng)
    image = _picture(scene, _sides(config, rng), rng, "")
    if rng.random() < TEXT_SHARE:
        sidecar = Member("txt", caption.encode())
    else:
        sidecar = _json({"caption": caption, "scene": scene.as_dict()})
    return Record(f"pair-{index:06d}", (image, sidecar))


def edit_record(config: ShapesConfig, index: int) -> Record:
    """Sound triple `index`: a picture, its edited self in the same size, and the instruction."""
    edit = training_edit(config.seed, index)
    rng = stream(config.seed, "edit/file", index)
    sides = _sides(config, rng)
    source, target = (
        _picture(scene, sides, rng, f"{role}.") for role, scene in [("source", edit.source), ("target", edit.target)]
    )
    return Record(f"edit-{index:06d}", (source, target, _json(_described(edit))))


def _described(edit: Edit) -> dict[str, object]:
    return {
        "instruction": edit.instruction,
        "kind": edit.kind,
        "source_scene": edit.source.as_dict(),
        "target_scene": edit.target.as_dict(),
    }


def _sides(config: ShapesConfig, rng: random.Random) -> tuple[int, int]:
    """(height, width) in pixels: any aspect within MAX_ASPECT, every side within the limits."""
    aspect = 1.0 if rng.random() < config.square_share else MAX_ASPECT ** rng.random()
    short = rng.uniform(config.min_px, config.max_px / aspect)
    sides = [round(short), min(config.max_px, round(short * aspect))]
    rng.shuffle(sides)
    return sides[0], sides[1]


def _picture(scene: Scene, sides: tuple[int, int], rng: random.Random, role: str) -> Member:
    """A rendering, encoded in a random format; full chroma resolution, or small shapes would bleed."""
    (suffix,) = rng.choices(list(FORMAT_WEIGHTS), weights=list(FORMAT_WEIGHTS.values()))
    picture = Image.fromarray(render(scene, *sides))
    buffer = io.BytesIO()
    match suffix:
        case "png":
            picture.save(buffer, "PNG")
        case "jpg":
            picture.save(buffer, "JPEG", quality=rng.randint(88, 97), subsampling=0)
        case "webp":
            picture.save(buffer, "WEBP", lossless=True, method=0)
    return Member(role + suffix, buffer.getvalue())


def _in_turn(kinds: list[Kind], name: str, seed: int) -> Iterator[Kind]:
    """All kinds in a shuffled order, again and again."""
    stream(seed, f"{name}/defects").shuffle(kinds)
    while True:
        yield from kinds


def _chunks(items: Iterator[_Item], size: int) -> Iterator[list[_Item]]:
    chunk: list[_Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _json(value: object) -> Member:
    return Member("json", json.dumps(value).encode())
