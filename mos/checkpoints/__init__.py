"""Trained models that ship with the package, each with its model card: a codec, and exports that `mos.sampling` reads.

from mos.checkpoints import SHAPES
from mos.sampling import MoSPipeline
MoSPipeline.from_pretrained(SHAPES)("a green star on a white background").images[0].save("star.png")
"""

from pathlib import Path

SHAPES = Path(__file__).resolve().parent / "shapes"
"""Coloured shapes on plain backgrounds, 64 px, drawn and edited, conditioned on the embedded MiniLM."""

CODEC = Path(__file__).resolve().parent / "codec"
"""Latents of drawn scenes, an AutoencoderDC of diffusers: `encode.vae = { type = "shapes" }`."""
