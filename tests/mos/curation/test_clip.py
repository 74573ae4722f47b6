import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mos.curation.clip import CLIP_MEAN, CLIP_STD, Clip
from mos.errors import UserError
from tests.operators.tiny_clip import save_tiny_clip

SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return Path(save_tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return Clip(str(folder), "cpu")


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def embedded(clip: Clip, image: Image.Image, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """What the model itself makes of a picture of its own size, as a unit vector."""
    pixels = (np.asarray(image, np.float32) / 255 - np.float32(mean)) / np.float32(std)
    features = clip.model.get_image_features(pixel_values=torch.from_numpy(pixels.transpose(2, 0, 1)[None]))
    features = getattr(features, "pooler_output", features)[0]
    return features / features.norm()


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    sentence = f"scorer path {tmp_path} holds no config.json: name the folder of a CLIP checkpoint"
    with pytest.raises(UserError, match=sentence):
        Clip(str(tmp_path), "cpu")


def test_embeddings_are_unit_vectors_of_one_width_and_nothing_learns(clip):
    images = clip.embed_images([picture(SIDE, SIDE, seed) for seed in range(3)])
    captions = clip.embed_captions(["a cat", "a dog"])
    assert (images.shape, captions.shape) == ((3, 8), (2, 8))
    for vectors in (images, captions):
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(vectors)))
        assert not vectors.requires_grad
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())
    assert not clip.model.training


def test_pixels_are_normalised_by_the_statistics_of_every_clip(clip):
    image = picture(SIDE, SIDE)
    torch.testing.assert_close(clip.embed_images([image])[0], embedded(clip, image, CLIP_MEAN, CLIP_STD))


def test_a_checkpoint_may_bring_statistics_of_its_own(clip, folder, tmp_path):
    own = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own/preprocessor_config.json").write_text(json.dumps(own))
    image = picture(SIDE, SIDE)
    found = Clip(str(tmp_path / "own"), "cpu").embed_images([image])[0]
    torch.testing.assert_close(found, embedded(clip, image, tuple(own["image_mean"]), tuple(own["image_std"])))
    assert (found - clip.embed_images([image])[0]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((SIDE + 20, SIDE), (10, 0, SIDE + 10, SIDE)),
        ((SIDE, SIDE + 20), (0, 10, SIDE, SIDE + 10)),
        ((SIDE + 1, SIDE), (0, 0, SIDE, SIDE)),
    ],
)
def test_the_centre_of_a_picture_is_seen(clip, size, box):
    image = picture(*size)
    whole, centre = clip.embed_images([image, image.crop(box)])
    torch.testing.assert_close(whole, centre)


def test_pictures_of_any_size_and_shape_stand_in_one_batch(clip):
    sizes = [(1, 1), (3, 7), (500, 1), (33, 100)]
    together = clip.embed_images([picture(*size) for size in sizes])
    alone = torch.cat([clip.embed_images([picture(*size)]) for size in sizes])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_large_picture_is_seen_as_its_reduction(clip):
    flat = Image.new("RGB", (300, 200), (200, 30, 90))
    small = Image.new("RGB", (SIDE, SIDE), (200, 30, 90))
    large, reduced = clip.embed_images([flat, small])
    torch.testing.assert_close(large, reduced)


def test_captions_beside_longer_ones_are_embedded_as_alone(clip):
    together = clip.embed_captions(["a cat", "a very long one", "x"])
    alone = torch.cat([clip.embed_captions([caption]) for caption in ("a cat", "a very long one", "x")])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_caption_is_read_up_to_the_window_of_the_model(clip):
    start = "a b c d e f g h i j k l m "
    beyond = clip.embed_captions([start + "n x", start + "n y"])
    torch.testing.assert_close(beyond[0], beyond[1])
    inside = clip.embed_captions([start + "x", start + "y"])
    assert (inside[0] - inside[1]).abs().max() > 1e-4
