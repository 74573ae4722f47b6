"""Images -> the aesthetic score of a linear head on CLIP embeddings."""

from pathlib import Path

import pyarrow as pa
from safetensors.torch import load_file

from mos.curation.clip import Clip
from mos.curation.config import AestheticConfig
from mos.curation.items import set_scores, still_in
from mos.errors import UserError
from mos.images.decode import ImageLimits, decode_image


class ScoreAesthetic:
    """Loads CLIP and the head once an actor.

    Reads   image, reason
    Writes  aesthetic: float32; reason, detail where the score is not finite
    """

    def __init__(self, config: AestheticConfig, limits: ImageLimits) -> None:
        self._limits = limits
        self._clip = Clip(config.path, config.actors.device)
        if not Path(config.head).expanduser().is_file():
            raise UserError(f"aesthetic head {config.head} does not exist: name a safetensors file")
        head = load_file(Path(config.head).expanduser())
        self._weight, self._bias = head["weight"].float(), head["bias"].float()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with its aesthetic scores."""
        rows = still_in(batch)
        if not rows:
            return batch
        images = batch.column("image")
        pictures = [decode_image(images[row].as_py(), self._limits, self._clip.side_px * 4) for row in rows]
        scores = self._clip.embed_images(pictures) @ self._weight.T + self._bias  # b 1
        return set_scores(batch, "aesthetic", dict(zip(rows, scores[:, 0].tolist(), strict=True)))
