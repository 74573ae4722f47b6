"""The distance against normal distributions whose distance is known, and against pictures that differ."""

import numpy as np
import pytest
import torch

from mos.encoders.load import load_codec
from mos.encoders.vae import ShapesVaeConfig
from mos.evaluation.frechet import codec_features, frechet_distance


def test_distance_of_normal_distributions_is_the_closed_form():
    noise = np.random.default_rng(0).standard_normal((4000, 3))
    noise = (noise - noise.mean(0)) @ np.linalg.inv(
        np.linalg.cholesky(np.cov(noise, rowvar=False))
    ).T  # exactly N(0, 1)
    scales, shift = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, -1.0])
    expected = (shift**2).sum() + ((scales - 1) ** 2).sum()
    assert frechet_distance(noise, noise * scales + shift) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(noise, noise[::-1]) == pytest.approx(0.0, abs=1e-9)


def test_rotated_covariances_need_the_matrix_root():
    rng = np.random.default_rng(1)
    one, other = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 4)), rng.standard_normal((500, 4))
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values) @ vectors.T
    inner = np.sqrt(np.linalg.eigvalsh(root @ second @ root)).sum()
    shift = one.mean(0) - other.mean(0)
    expected = shift @ shift + np.trace(first + second) - 2 * inner
    assert frechet_distance(one, other) == pytest.approx(expected)


def test_features_tell_a_picture_from_its_mirror_image_and_noise_apart():
    codec = load_codec(ShapesVaeConfig())
    pictures = torch.full((2, 3, 48, 64), 250, dtype=torch.uint8)
    pictures[:, :, 8:24, 8:24] = torch.tensor([222, 30, 34], dtype=torch.uint8)[None, :, None, None]
    features = codec_features(codec, pictures)
    assert features.shape == (2, 8 * codec.channels)
    np.testing.assert_allclose(features[0], features[1])
    mirrored = codec_features(codec, pictures.flip(3))
    assert np.abs(features - mirrored).max() > 0.1
