"""Figures of what the package ships for drawn scenes, and of the demo: codec, scores, speed.

  python -m tests.benchmarks.evidence              # after `make demo` and the ablation, whose figures it reads

The shipped model's scores are those of its card: 64 held-out prompts of each category, four pictures each. The rate of
training is that of one worker's share of the demo's first stage, unsharded, beside the recipe before latents
(tests/small_run.toml), both in float32, interleaved.

Pictures are 256 scenes of a seed that no config draws, at 64 px. The peer keeps as many numbers of a picture as the
codec: it shrinks the picture to 13 x 13 px (507 values against 512) and enlarges it again.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mos.autoencoder.objective import psnr
from mos.checkpoints import CODEC, SHAPES
from mos.encoders.load import load_codec
from mos.encoders.vae import ShapesVaeConfig
from mos.images.decode import ImageLimits
from mos.images.pixels import prepare_image
from mos.ledger import StepLedger
from mos.shapes.layout import training_scene
from mos.shapes.render import render
from pipelines.cost.figures import stage_figures
from pipelines.cost.measure import step_seconds
from pipelines.run.cli import DEFAULT_CONFIG
from pipelines.run.config import load_run
from tests.benchmarks.harness import CLONE, Row, write_results

ABLATE = CLONE / "pipelines" / "configs" / "ablate.toml"
SIDE, NUM, SEED = 64, 256, 90_001
PHOTOS = CLONE.parent / "shared" / "data" / "photos" / "images"
MOST_MIB, LEAST_DB = 2.0, 32.0
"""Marks."""
SHIP_MARKS = {
    "single_object": ("ship.single", 0.97),
    "colors": ("ship.colors", 0.95),
    "two_object": ("ship.two", 0.75),
    "counting": ("ship.counting", 0.75),
    "position": ("ship.position", 0.75),
    "color_attr": ("ship.attr", 0.65),
}
EDIT_MARK, DEMO_MARKS, RATE_MARK, DRAW_MARK_S = 0.60, (0.45, 0.95, 0.30), 2.5, 8.0
REPEATS = 5


def scenes() -> UInt8[Tensor, "num 3 side side"]:
    """Drawn scenes of all six categories that nothing was trained on."""
    pictures = [render(training_scene(SEED, index), SIDE, SIDE) for index in range(NUM)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def photographs(folder: Path = PHOTOS) -> UInt8[Tensor, "num 3 side side"] | None:
    """Photographs at the same size; None where there are none here."""
    limits = ImageLimits()
    found = [
        prepare_image(path.read_bytes(), f"{SIDE}x{SIDE}", limits)
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    ]
    return torch.stack(found) if found else None


def shrunk(pictures: UInt8[Tensor, "num 3 side side"], side: int = 13) -> UInt8[Tensor, "num 3 side side"]:
    """Pictures after a detour through `side` x `side` px, bicubic both ways."""

    def detour(picture: Tensor) -> Tensor:
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        small = image.resize((side, side), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(small.resize(image.size, Image.Resampling.BICUBIC)).copy()).permute(2, 0, 1)

    return torch.stack([detour(picture) for picture in pictures])


def codec_rows() -> Iterator[Row]:
    """Of the codec that ships."""
    codec = load_codec(ShapesVaeConfig())
    for name, pictures in (("codec.psnr", scenes()), ("codec.photos", photographs())):
        if pictures is None:
            print(f"{name}: no photographs in {PHOTOS}, left out")
            continue
        kept = float(psnr(codec.decode(codec.encode(pictures)), pictures).mean())
        peer = float(psnr(shrunk(pictures), pictures).mean())
        yield Row(name, kept, f"dB ({len(pictures)} pictures)", "bicubic through as many numbers", peer, kept / peer)
        if name == "codec.psnr":
            yield Row("codec.psnr.mark", kept, "dB", "mark", LEAST_DB, kept / LEAST_DB)
    size = sum(path.stat().st_size for path in CODEC.iterdir() if path.suffix in (".safetensors", ".json")) / 2**20
    yield Row("codec.bytes", size, "MiB", "mark", MOST_MIB, MOST_MIB / size)


def ship_rows() -> Iterator[Row]:
    """Shares of right pictures and edits of the model that ships."""
    scores = json.loads((SHAPES / "scores.json").read_text(encoding="utf-8"))
    for category, (name, mark) in SHIP_MARKS.items():
        found = scores["categories"][category]
        yield _beside_mark(name, found["correct"], f"of {found['num']}", mark)
    for kind, found in scores["edits"].items():
        yield _beside_mark(f"ship.edit.{kind}", found["correct"], f"of {found['num']}", EDIT_MARK)


def demo_rows() -> Iterator[Row]:
    """What the report of the demo in this clone says."""
    record = StepLedger(CLONE / "runs" / "demo").latest("evaluate")
    if record is None:
        print("demo: there is no finished demo in this clone, left out")
        return
    scores, edits = record.outputs["scores"], record.outputs["edits"]
    of_edits = sum(found["correct"] for found in edits.values()) / len(edits)
    figures = (scores["overall"], scores["categories"]["single_object"]["correct"], of_edits)
    for name, value, mark in zip(("demo.mean", "demo.single", "demo.edit"), figures, DEMO_MARKS, strict=True):
        yield _beside_mark(name, value, "right", mark)


def directions_rows(root: Path | None = None) -> Iterator[Row]:
    """Comparisons of the paper that were run, and in how many a figure agrees with it and none disagrees.

    Args:
        root: of the finished ablation; None: `runs/ablate` of this clone.
    """
    settings = load_run(ABLATE).ablate
    path = (root or CLONE / "runs" / "ablate") / "ablation" / "verdicts.json"
    if settings is None or not path.is_file():
        print("comparisons: there is no finished ablation in this clone, left out")
        return
    told = [
        {verdict[name]["direction"] for name in ("loss", "score", "distance") if verdict[name] is not None}
        for verdict in json.loads(path.read_text(encoding="utf-8"))
    ]
    agree = sum("agrees" in found and "disagrees" not in found for found in told)
    unit = f"comparisons that agree, {len(settings.seeds)} seeds"
    yield Row("evidence.directions", agree, unit, "comparisons run", len(told), None, len(settings.seeds))


def rate_row() -> Row:
    """Samples a second of a training step of today and of the recipe before."""
    float32 = ("stage1.engine.precision.compute=float32",)
    configs = {
        "today": load_run(DEFAULT_CONFIG, float32),
        "before": load_run(CLONE / "tests" / "small_run.toml", float32),
    }
    rates: dict[str, list[float]] = {name: [] for name in configs}
    for _ in range(REPEATS):
        for name, config in configs.items():
            share = config.stage("stage1").batch_size // config.cluster.train.num
            figures = stage_figures(config, "stage1")
            rates[name].append(share / step_seconds(config, "stage1", figures, torch.device("cpu"), 4.0))
    today, before = (statistics.median(rates[name]) for name in ("today", "before"))
    return Row(
        "train.rate", today, "samples/s, one worker", "recipe before, of pixels", before, today / before, REPEATS
    )


def draw_row() -> Row:
    """Wall seconds of a picture from a fresh shell with the model that ships."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS):
            command = [sys.executable, "pipelines/sample.py", "three green stars", f"root={folder}"]
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, cwd=CLONE)
            seconds.append(time.perf_counter() - started)
    value = statistics.median(seconds)
    return Row("draw.seconds", value, "s", "mark", DRAW_MARK_S, DRAW_MARK_S / value, REPEATS)


def _beside_mark(name: str, value: float, unit: str, mark: float) -> Row:
    return Row(name, value, unit, "mark", mark, value / mark)


if __name__ == "__main__":
    write_results("evidence", [*codec_rows(), *ship_rows(), *demo_rows(), *directions_rows(), rate_row(), draw_row()])
