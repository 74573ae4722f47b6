"""What a trained router does with quantised states: picks equal to those of the exact ones, and the loss beside theirs.

    python -m tests.benchmarks.states.routing [root of a finished demo]

Exact and quantised states of 256 pairs of the demo go through its last text-to-image model with the same latents, noise
and timesteps, four per pair, evenly spaced. A pick is equal where a token sends the same two layers to a block. The
calibration is that of 256 other captions.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from mos.encoders.load import load_codec, load_tower
from mos.flow.path import interpolate
from mos.images.decode import ImageLimits
from mos.images.pixels import prepare_image
from mos.loader.batch import Batch
from mos.model.context import Context
from mos.model.mos import MoS
from mos.sampling.export import Export, read_export
from mos.states.packed import FormatName
from mos.states.payload import StateCodec
from mos.states.quantise import dequantise
from mos.tables.lance import open_table
from mos.training.loop import sample_losses
from tests.benchmarks.harness import CLONE, Row, write_results
from tests.benchmarks.states.sizes import learn

MARKS: dict[FormatName, float] = {"int8": 0.995, "int4": 0.97}
PAIRS, TIMESTEPS, BATCH, CALIBRATED = 256, 4, 64, 256


def routing_rows(root: Path) -> list[Row]:
    """Share of equal picks and relative difference of the loss, for each quantised format."""
    torch.set_num_threads(1)
    export = read_export(newest_export(root))
    captions, latents = pairs_of(root, export)
    states = [context.states for context in load_tower(export.config.tower).encode(captions)]
    exact = states[:PAIRS]
    rows = []
    for name, mark in MARKS.items():
        codec = learn(name, states[PAIRS:])
        equal, loss, loss_exact = compare(export.model, exact, quantised(codec, exact), latents)
        difference = abs(loss - loss_exact) / loss_exact
        rows += [
            Row(f"route.{name}", equal, "share of equal picks", "mark", mark, equal / mark),
            Row(f"route.{name}.loss", difference, "relative difference", "bf16's loss", loss_exact),
        ]
    return rows


def newest_export(root: Path) -> Path:
    """The model of the last text-to-image stage."""
    exports = sorted((root / "checkpoints" / "stage4").glob("*/export"), key=lambda path: path.stat().st_mtime)
    if not exports:
        raise SystemExit(f"{root} has no finished stage4: run `make demo`, or name the root of a finished demo")
    return exports[-1]


def pairs_of(root: Path, export: Export) -> tuple[list[str], Tensor]:
    """Captions of pairs in the square bucket, then others for the calibration; latents of the pairs."""
    bucket = f"{export.resolution}x{export.resolution}"
    square = f"task = 'generate' AND bucket_{export.resolution} = '{bucket}'"
    table = open_table(str(root / "tables" / "samples.lance"))
    light = table.to_table(columns=["caption", "image_hash"], filter=square).to_pylist()
    light.sort(key=lambda sample: sample["image_hash"])
    pairs = light[:PAIRS]
    seen = {sample["caption"] for sample in pairs}
    others = list(dict.fromkeys(sample["caption"] for sample in light if sample["caption"] not in seen))[:CALIBRATED]
    images = {
        row["image_hash"]: row["image"]
        for row in table.to_table(columns=["image_hash", "image"], filter=square).to_pylist()
    }
    codec = load_codec(export.config.vae)
    pictures = [prepare_image(images[sample["image_hash"]], bucket, ImageLimits(min_side_px=16)) for sample in pairs]
    return [sample["caption"] for sample in pairs] + others, codec.encode(torch.stack(pictures))


def quantised(codec: StateCodec, states: list[Tensor]) -> list[Tensor]:
    """The states as they are read from a table of this codec."""
    return [dequantise(codec.quantise(context)) for context in states]


@torch.inference_mode()
def compare(model: MoS, exact: list[Tensor], read: list[Tensor], latents: Tensor) -> tuple[float, float, float]:
    """Share of equal picks, mean loss with the states that were read, mean loss with the exact ones."""
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    equal, picks, losses = 0, 0, {"read": 0.0, "exact": 0.0}
    for start in range(0, len(latents), BATCH):
        part = slice(start, start + BATCH)
        contexts = {"exact": Context.of(exact[part]), "read": Context.of(read[part])}
        for step in range(TIMESTEPS):
            t = torch.full((len(latents[part]),), (step + 0.5) / TIMESTEPS)
            routed = {}
            for name, context in contexts.items():
                batch = Batch(0, 0, latents[part], noise[part], t, context.to("cpu", torch.float32))
                losses[name] += float(sample_losses(model, batch).sum())
                z_t = interpolate(batch.latents, batch.noise, t)
                routed[name] = model.route(z_t, t, batch.context).index.sort(dim=-1).values
            same = (routed["exact"] == routed["read"]).all(dim=-1)[contexts["exact"].layout.mask]
            equal, picks = equal + int(same.sum()), picks + same.numel()
    count = len(latents) * TIMESTEPS
    return equal / picks, losses["read"] / count, losses["exact"] / count


def default_root() -> Path:
    """Where `make demo` leaves its run."""
    return CLONE / "runs" / "demo"


if __name__ == "__main__":
    write_results("states", routing_rows(Path(sys.argv[1]) if len(sys.argv) > 1 else default_root()))
