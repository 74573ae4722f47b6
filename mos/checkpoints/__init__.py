"""Trained models that ship with the package, each with its model card: a codec, and exports that `mos.sampling` reads.

from mos.checkpoints import SHAPES
from mos.sampling import MosPipeline
MosPipeline.from_export(SHAPES)("a red circle left of a blue square")[0].save("circle.png")
"""

from pathlib import Path

SHAPES = Path(__file__).resolve().parent / "shapes"
"""Coloured shapes on plain backgrounds, 72 px, conditioned on the embedded MiniLM."""

CODEC = Path(__file__).resolve().parent / "codec"
"""Latents of drawn scenes, an AutoencoderDC of diffusers: `encode.vae = { type = "shapes" }`."""
