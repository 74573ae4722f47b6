from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from mos.curation.clip import Clip
from mos.images.decode import ImageLimits
from operators.score_files import ScoreFiles
from tests.operators.tiny_clip import save_tiny_clip


def test_scores_are_cosines_of_picture_and_prompt(tmp_path: Path) -> None:
    folder, rows = save_tiny_clip(tmp_path / "clip"), []
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (40, 50), colour).save(tmp_path / f"{number}.png")
        rows.append({"path": str(tmp_path / f"{number}.png"), "prompt": f"a {colour} thing"})
    scores = ScoreFiles(folder, "cpu", ImageLimits())(pa.Table.from_pylist(rows)).column("score").to_pylist()
    clip = Clip(folder, "cpu")
    for row, score in zip(rows, scores, strict=True):
        cosine = clip.embed_images([Image.open(row["path"])]) @ clip.embed_captions([row["prompt"]]).T
        assert score == pytest.approx(float(cosine), abs=1e-6)
