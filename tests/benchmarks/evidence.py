"""Figures of what the package ships for drawn scenes: how much of a picture its codec keeps.

  python -m tests.benchmarks.evidence

Pictures are 256 scenes of a seed that no config draws, at 64 px. The peer keeps as many numbers of a picture as the
codec: it shrinks the picture to 13 x 13 px (507 values against 512) and enlarges it again.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mos.autoencoder.objective import psnr
from mos.checkpoints import CODEC
from mos.encoders.load import load_codec
from mos.encoders.vae import ShapesVaeConfig
from mos.images.decode import ImageLimits
from mos.images.pixels import prepare_image
from mos.shapes.layout import training_scene
from mos.shapes.render import render
from tests.benchmarks.harness import CLONE, Row, write_results

SIDE, NUM, SEED = 64, 256, 90_001
PHOTOS = CLONE.parent / "shared" / "data" / "photos" / "images"
MOST_MIB, LEAST_DB = 2.0, 32.0
"""Marks."""


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


if __name__ == "__main__":
    write_results("evidence", list(codec_rows()))
