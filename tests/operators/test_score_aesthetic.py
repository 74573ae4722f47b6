"""Scorers with a real CLIP class, tiny and with random weights."""

import pyarrow as pa
import pytest

from mos.curation.config import AestheticConfig, ScorerConfig
from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.images.reasons import Reason
from operators.score_aesthetic import ScoreAesthetic
from operators.score_alignment import ScoreAlignment
from tests.operators.bad_inputs import encode, noise
from tests.operators.tiny_clip import save_tiny_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def batch(captions: list[str]) -> pa.Table:
    """Sound rows, and one refused before."""
    num = len(captions)
    rows = {
        "image": [encode(noise(seed, 80, 50), "PNG") for seed in range(num)] + [None],
        "reference": pa.array([None] * (num + 1), pa.large_binary()),
        "caption": [*captions, None],
        "reason": pa.array([None] * num + ["image_empty"], pa.string()),
        "detail": pa.array([None] * (num + 1), pa.string()),
        "aesthetic": pa.array([None] * (num + 1), pa.float32()),
        "alignment": pa.array([None] * (num + 1), pa.float32()),
    }
    table = pa.table(rows)
    return table.set_column(0, "image", table.column("image").cast(pa.large_binary()))


def test_aesthetic_scores_fill_their_column(clip):
    score = ScoreAesthetic(AestheticConfig(path=clip, head=f"{clip}/head.safetensors"), ImageLimits())
    rows = batch(["a cat", "a dog", "a bird"])
    scores = score(rows).column("aesthetic").to_pylist()
    assert scores[3] is None
    assert len(set(scores[:3])) == 3
    alone = score(rows.slice(1, 1)).column("aesthetic").to_pylist()
    assert alone[0] == pytest.approx(scores[1], abs=1e-5)


def test_alignment_is_a_cosine_of_image_and_caption(clip):
    score = ScoreAlignment(ScorerConfig(path=clip), ImageLimits())
    scores = score(batch(["a cat", "a dog " * 50, "x"])).column("alignment").to_pylist()
    assert all(-1 <= value <= 1 for value in scores[:3])
    assert scores[3] is None
    other = score(batch(["xyz", "a dog " * 50, "x"])).column("alignment").to_pylist()
    assert other[0] != pytest.approx(scores[0], abs=1e-6)
    assert other[2] == pytest.approx(scores[2], abs=1e-5)


def test_scores_that_are_not_finite_are_refused(clip):
    score = ScoreAesthetic(AestheticConfig(path=clip, head=f"{clip}/broken.safetensors"), ImageLimits())
    scored = score(batch(["a cat"]))
    assert scored.column("reason").to_pylist() == [Reason.SCORE_NOT_FINITE, Reason.IMAGE_EMPTY]
    assert scored.column("image").to_pylist() == [None, None]


def test_missing_models_are_named(tmp_path, clip):
    with pytest.raises(UserError, match=r"config\.json"):
        ScoreAlignment(ScorerConfig(path=str(tmp_path)), ImageLimits())
    with pytest.raises(UserError, match="gone"):
        ScoreAesthetic(AestheticConfig(path=clip, head="gone"), ImageLimits())
