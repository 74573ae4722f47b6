"""Trained models that ship with the package: exports as `mos.sampling.export` reads them, each with its model card.

from mos.checkpoints import SHAPES
from mos.sampling import MosPipeline
MosPipeline.from_export(SHAPES)("a red circle left of a blue square")[0].save("circle.png")
"""

from pathlib import Path

SHAPES = Path(__file__).resolve().parent / "shapes"
"""Coloured shapes on plain backgrounds, 72 px, conditioned on the embedded MiniLM."""
