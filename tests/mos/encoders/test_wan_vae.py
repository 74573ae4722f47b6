import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mos.encoders.load import load_codec
from mos.encoders.vae import Codec, RandomWan, WanConfig
from mos.encoders.wan_vae import build_random
from mos.errors import UserError
from tests.mos.encoders.pictures import pictures


@pytest.fixture(scope="module")
def wan() -> Codec:
    return load_codec(WanConfig(random=RandomWan()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The weights of `wan`, saved."""
    build_random(RandomWan()).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def test_wan_has_the_geometry_of_wan_2_2(wan: Codec) -> None:
    images = pictures(2, 3, 64, 96)
    latents = wan.encode(images)
    assert (wan.channels, wan.stride) == (48, 16)
    assert latents.shape == (2, 48, 4, 6)
    assert latents.dtype == torch.float32
    assert 0.2 < latents.std() < 5
    decoded = wan.decode(latents)
    assert decoded.shape == images.shape
    assert decoded.dtype == torch.uint8


def test_wan_encodes_each_image_by_itself(wan: Codec) -> None:
    images = pictures(3, 3, 32, 32)
    torch.testing.assert_close(wan.encode(images)[1:2], wan.encode(images[1:2]), atol=1e-4, rtol=1e-4)


def test_wan_runs_in_float32_and_normalises_with_its_own_statistics(wan: Codec) -> None:
    vae = build_random(RandomWan())
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float32}
    images = pictures(1, 3, 32, 32)
    with torch.inference_mode():
        raw = vae.encode((images.float() / 127.5 - 1)[:, :, None]).latent_dist.mean[:, :, 0]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    torch.testing.assert_close(wan.encode(images), (raw - mean) / std)


def test_wan_saved_and_loaded_by_path_is_the_same_vae(wan: Codec, folder: Path) -> None:
    loaded = load_codec(WanConfig(path=str(folder.parent), subfolder="vae"))
    images = pictures(1, 3, 32, 32)
    torch.testing.assert_close(loaded.encode(images), wan.encode(images))
    assert loaded.codec_id == load_codec(WanConfig(path=str(folder))).codec_id


def test_statistics_of_a_checkpoint_scale_its_latents_and_are_part_of_its_identity(wan: Codec, folder: Path) -> None:
    plain = load_codec(WanConfig(path=str(folder)))
    config = json.loads((folder / "config.json").read_text())
    changed = config | {"latents_mean": [0.5] * 48, "latents_std": [*[2.0] * 47, 0.25]}
    (folder / "config.json").write_text(json.dumps(changed))
    other = load_codec(WanConfig(path=str(folder)))
    images = pictures(2, 3, 32, 48)
    raw = 0.1 * wan.encode(images)
    expected = torch.cat([(raw[:, :47] - 0.5) / 2, (raw[:, 47:] - 0.5) / 0.25], dim=1)
    torch.testing.assert_close(other.encode(images), expected)
    difference = other.decode(expected).int() - wan.decode(10 * raw).int()
    assert difference.abs().max() <= 1
    assert other.codec_id != plain.codec_id


def test_drawing_random_weights_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    load_codec(WanConfig(random=RandomWan(seed=3)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_sides_must_divide_into_cells(wan: Codec) -> None:
    with pytest.raises(UserError, match=r"an image of 40x32 px does not divide .* multiples of 16"):
        wan.encode(pictures(1, 3, 40, 32))


def test_wrong_weights_are_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not exist"):
        load_codec(WanConfig(path="/nowhere/wan"))
    with pytest.raises(UserError, match="lacks its revision"):
        load_codec(WanConfig(path="Wan-AI/Wan2.2-TI2V-5B-Diffusers", subfolder="vae"))
    with pytest.raises(UserError, match=f"AutoencoderKLWan cannot be loaded from {tmp_path}"):
        load_codec(WanConfig(path=str(tmp_path)))


def test_missing_weights_are_refused_not_drawn_at_random(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    del weights["quant_conv.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights of AutoencoderKLWan \(first: quant_conv.weight\)"):
        load_codec(WanConfig(path=str(folder)))


@pytest.mark.parametrize(("channels", "stride"), [(16, 8), (16, 16), (48, 8)])
def test_the_vae_of_another_wan_is_refused_by_its_geometry(channels: int, stride: int, tmp_path: Path) -> None:
    from diffusers import AutoencoderKLWan

    statistics = {"latents_mean": [0.0] * channels, "latents_std": [1.0] * channels}
    other = AutoencoderKLWan(
        base_dim=4, z_dim=channels, scale_factor_spatial=stride, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **statistics
    )
    other.save_pretrained(tmp_path)
    message = rf"the VAE has {channels} channels at {stride}x, Wan 2\.2 has 48 at 16x: correct `path`"
    with pytest.raises(UserError, match=message):
        load_codec(WanConfig(path=str(tmp_path)))
