"""Real classes of diffusers with tiny random weights: normalised as diffusers does, or refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mos.encoders.load import describe_codec, load_codec
from mos.encoders.vae import DiffusersConfig
from mos.errors import UserError
from tests.mos.encoders.pictures import pictures

KL = {"block_out_channels": (4, 4), "down_block_types": ("DownEncoderBlock2D",) * 2, "norm_num_groups": 2,
      "up_block_types": ("UpDecoderBlock2D",) * 2, "latent_channels": 5}  # fmt: skip
TINY = {"encoder_block_out_channels": (4, 4, 4), "decoder_block_out_channels": (4, 4, 4), "latent_channels": 6,
        "num_encoder_blocks": (0, 1, 1), "num_decoder_blocks": (1, 1, 0)}  # fmt: skip
DC = {"encoder_block_out_channels": (4, 8), "decoder_block_out_channels": (4, 8), "latent_channels": 4,
      "encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock", "encoder_layers_per_block": (1, 1),
      "decoder_layers_per_block": (1, 1), "attention_head_dim": 4, "encoder_qkv_multiscales": ((), ()),
      "decoder_qkv_multiscales": ((), ())}  # fmt: skip
KINDS = {"AutoencoderKL": (KL, 5, 2), "AutoencoderTiny": (TINY, 6, 4), "AutoencoderDC": (DC, 4, 2)}


def save(folder: Path, name: str = "AutoencoderTiny", **changed: Any) -> DiffusersConfig:
    """A checkpoint with seeded weights, some entries of whose config.json are others (None: left out)."""
    import diffusers

    torch.manual_seed(0)
    getattr(diffusers, name)(**KINDS[name][0]).save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changed
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8")
    return DiffusersConfig(path=str(folder))


@pytest.mark.parametrize("name", KINDS)
def test_a_class_is_read_with_its_geometry(name: str, tmp_path: Path) -> None:
    config = save(tmp_path, name)
    codec, spec = load_codec(config), describe_codec(config)
    assert (codec.channels, codec.stride) == (spec.channels, spec.stride) == KINDS[name][1:]
    assert codec.codec_id == spec.codec_id
    images = pictures(2, 3, 16, 24)
    latents = codec.encode(images)
    assert latents.shape == (2, codec.channels, 16 // codec.stride, 24 // codec.stride)
    assert latents.dtype == torch.float32
    decoded = codec.decode(latents)
    assert (decoded.shape, decoded.dtype) == (images.shape, torch.uint8)


@pytest.mark.parametrize(
    ("changed", "mean", "std"),
    [
        ({"scaling_factor": 0.25}, 0.0, 4.0),
        ({"scaling_factor": 0.5, "shift_factor": 0.1}, 0.1, 2.0),
        ({"scaling_factor": 1.0, "latents_mean": [0.3] * 5, "latents_std": [0.2] * 5}, 0.3, 0.2),
        ({"scaling_factor": 0.5, "latents_mean": [0.3] * 5, "latents_std": [0.2] * 5}, 0.3, 0.4),
    ],
)
def test_latents_are_shifted_and_scaled_and_back(changed: dict, mean: float, std: float, tmp_path: Path) -> None:
    plain = load_codec(save(tmp_path / "plain", "AutoencoderKL", scaling_factor=1.0))
    other = load_codec(save(tmp_path / "other", "AutoencoderKL", **changed))
    images = pictures(2, 3, 16, 16)
    torch.testing.assert_close(other.encode(images), (plain.encode(images) - mean) / std)
    assert (other.decode(other.encode(images)).int() - plain.decode(plain.encode(images)).int()).abs().max() <= 1
    assert other.codec_id != plain.codec_id


def test_an_image_is_encoded_by_itself(tmp_path: Path) -> None:
    codec = load_codec(save(tmp_path))
    images = pictures(3, 3, 16, 16)
    torch.testing.assert_close(codec.encode(images)[1:2], codec.encode(images[1:2]), atol=1e-5, rtol=1e-5)


def test_a_copy_elsewhere_is_the_same_codec(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a"), save(tmp_path / "b" / "vae")
    inside = DiffusersConfig(path=str(tmp_path / "b"), subfolder="vae")
    assert describe_codec(first) == describe_codec(second) == describe_codec(inside)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"_class_name": "AutoencoderKLWan"}, "is a AutoencoderKLWan, type 'diffusers' reads AutoencoderKL, "),
        ({"_class_name": None}, "is a None, type 'diffusers' reads"),
        ({"scaling_factor": None}, "scaling_factor = None in its config.json, so its latents may have any size"),
        ({"scaling_factor": 0.0}, "scaling_factor = 0.0 in its config.json"),
        ({"latents_mean": [0.0] * 6}, "one of latents_mean and latents_std"),
        ({"latents_mean": [0.0] * 6, "latents_std": [1.0] * 5}, "6 means and 5 deviations, not 6 positive ones"),
        ({"latents_mean": [0.0] * 6, "latents_std": [1.0] * 5 + [0.0]}, "not 6 positive ones"),
    ],
)
def test_what_a_config_lacks_is_said_before_weights_are_read(changed: dict, sentence: str, tmp_path: Path) -> None:
    config = save(tmp_path, **changed)
    with pytest.raises(UserError) as caught:
        describe_codec(config)
    assert sentence in str(caught.value)


def test_wrong_weights_are_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not exist"):
        describe_codec(DiffusersConfig(path="/nowhere/vae"))
    with pytest.raises(UserError, match="lacks its revision"):
        describe_codec(DiffusersConfig(path="madebyollin/taesd"))
    with pytest.raises(UserError, match=r"has no readable config\.json"):
        describe_codec(DiffusersConfig(path=str(tmp_path)))
    config = save(tmp_path / "other", latent_channels=7)
    with pytest.raises(UserError, match="AutoencoderTiny cannot be loaded from"):
        load_codec(config)


def test_sides_must_divide_into_cells(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"an image of 18x16 px does not divide .* multiples of 4"):
        load_codec(save(tmp_path)).encode(pictures(1, 3, 18, 16))
