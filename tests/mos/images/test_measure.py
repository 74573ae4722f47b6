import io

import numpy as np
import pytest
from PIL import Image

from mos.curation.hashing import pair_id, perceptual_hash, sample_id
from mos.images.measure import measure, sharpness


def noise(seed: int, side: int = 96) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC))


def test_scores_of_known_pictures():
    flat = measure(np.full((20, 30), 77, np.uint8))
    assert (flat.sharpness, flat.contrast, flat.entropy) == (0, 0, 0)
    halves = np.zeros((20, 30), np.uint8)
    halves[:, 15:] = 255
    scores = measure(halves)
    assert scores.contrast == pytest.approx(0.5)
    assert scores.entropy == pytest.approx(1.0)
    levels = measure(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert levels.entropy == pytest.approx(8.0)


def test_blur_lowers_sharpness():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    small = Image.fromarray(picture).resize((16, 16), Image.Resampling.BOX)
    blurred = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC))
    assert sharpness(blurred) < sharpness(picture) / 10


def test_sharpness_agrees_with_its_formula():
    picture = np.random.default_rng(1).integers(0, 256, (9, 7), dtype=np.uint8)
    luma = picture / 255
    values = [
        luma[y, x - 1] + luma[y, x + 1] + luma[y - 1, x] + luma[y + 1, x] - 4 * luma[y, x]
        for y in range(1, 8)
        for x in range(1, 6)
    ]
    assert sharpness(picture) == pytest.approx(np.var(values))


@pytest.mark.parametrize("shape", [(1, 1), (2, 50), (50, 2)])
def test_slivers_have_scores(shape):
    assert measure(np.full(shape, 9, np.uint8)).sharpness == 0


def test_perceptual_hash_survives_encoding_and_resizing():
    for seed in range(5):
        picture = noise(seed)
        buffer = io.BytesIO()
        Image.fromarray(picture).resize((71, 71)).save(buffer, "JPEG", quality=60)
        copy = np.asarray(Image.open(buffer))
        bits = int(perceptual_hash(picture), 16) ^ int(perceptual_hash(copy), 16)
        assert bits.bit_count() <= 4
        other = int(perceptual_hash(picture), 16) ^ int(perceptual_hash(noise(seed + 100)), 16)
        assert other.bit_count() > 8


def test_ids_depend_on_every_part():
    ids = {sample_id("i", None, "c"), sample_id("i", "r", "c"), sample_id("i", None, "d"), sample_id("j", None, "c")}
    assert len(ids) == 4
    assert pair_id(None, "A Cat") == pair_id(None, "a cat") != pair_id("r", "a cat")
