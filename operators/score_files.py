"""Paths of pictures and their prompts in, how well they belong together out."""

from pathlib import Path

import pyarrow as pa

from mos.curation.clip import Clip
from mos.images.decode import ImageLimits, decode_image


class ScoreFiles:
    """Loads CLIP once an actor.

    Reads   path, prompt
    Writes  score: float64, cosine in [-1, 1]
    """

    def __init__(self, clip: str, device: str, limits: ImageLimits) -> None:
        """Load the checkpoint in a folder onto a device of torch; pictures are held to the limits."""
        self._clip, self._limits = Clip(clip, device), limits

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with its scores."""
        paths, prompts = batch.column("path").to_pylist(), batch.column("prompt").to_pylist()
        pictures = [decode_image(Path(path).read_bytes(), self._limits) for path in paths]
        cosines = (self._clip.embed_images(pictures) * self._clip.embed_captions(prompts)).sum(-1)
        return batch.append_column("score", pa.array(cosines.tolist(), pa.float64()))
