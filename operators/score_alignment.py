"""Images and captions -> how well they belong together."""

import pyarrow as pa

from mos.curation.clip import Clip
from mos.curation.config import ScorerConfig
from mos.curation.items import set_scores, still_in
from mos.images.decode import ImageLimits, decode_image


class ScoreAlignment:
    """Loads CLIP once an actor.

    Reads   image, caption, reason
    Writes  alignment: float32, cosine in [-1, 1]; reason, detail where it is not finite
    """

    def __init__(self, config: ScorerConfig, limits: ImageLimits) -> None:
        self._limits = limits
        self._clip = Clip(config.path, config.actors.device)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with its alignment scores."""
        rows = still_in(batch)
        if not rows:
            return batch
        images, captions = batch.column("image"), batch.column("caption")
        pictures = [decode_image(images[row].as_py(), self._limits, self._clip.side_px * 4) for row in rows]
        pictured = self._clip.embed_images(pictures)
        told = self._clip.embed_captions([captions[row].as_py() for row in rows])
        return set_scores(batch, "alignment", dict(zip(rows, (pictured * told).sum(-1).tolist(), strict=True)))
