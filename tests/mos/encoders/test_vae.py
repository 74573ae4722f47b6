import pytest
import torch
from pydantic import ValidationError

from mos.encoders.load import describe_codec, load_codec
from mos.encoders.vae import Codec, PixelConfig, RandomWan, WanConfig
from mos.errors import UserError
from mos.states.latents import pack_latent, unpack_latent


def pictures(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def wan() -> Codec:
    return load_codec(WanConfig(random=RandomWan()))


@pytest.mark.parametrize(("stride", "scale"), [(1, 1.0), (2, 1.0), (4, 2.0), (2, 0.3)])
def test_pixels_come_back_exactly_also_through_the_table(stride: int, scale: float) -> None:
    codec = load_codec(PixelConfig(stride=stride, scale=scale))
    images = torch.cat(
        [pictures(2, 3, 16, 24), torch.arange(384).remainder(256).byte().view(1, 1, 16, 24).expand(1, 3, -1, -1)]
    )
    latents = codec.encode(images)
    assert latents.shape == (3, 3 * stride**2, 16 // stride, 24 // stride)
    assert latents.abs().max() <= scale
    stored = torch.stack(
        [unpack_latent(bytearray(pack_latent(latent)), codec.channels, tuple(latent.shape[1:])) for latent in latents]
    )
    assert torch.equal(codec.decode(stored), images)


def test_pixel_decode_clips() -> None:
    codec = load_codec(PixelConfig())
    decoded = codec.decode(torch.tensor([-3.0, 3.0]).view(2, 1, 1, 1).expand(2, 12, 2, 2))
    assert (decoded[0] == 0).all()
    assert (decoded[1] == 255).all()


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
    vae = wan._vae
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float32}
    images = pictures(1, 3, 32, 32)
    with torch.inference_mode():
        raw = vae.encode((images.float() / 127.5 - 1)[:, :, None]).latent_dist.mean[:, :, 0]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    torch.testing.assert_close(wan.encode(images), (raw - mean) / std)


def test_wan_saved_and_loaded_by_path_is_the_same_vae(wan: Codec, tmp_path) -> None:
    wan._vae.save_pretrained(tmp_path / "vae")
    loaded = load_codec(WanConfig(path=str(tmp_path), subfolder="vae"))
    images = pictures(1, 3, 32, 32)
    torch.testing.assert_close(loaded.encode(images), wan.encode(images))
    assert loaded.codec_id == describe_codec(WanConfig(path=str(tmp_path / "vae"))).codec_id


def test_drawing_random_weights_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    load_codec(WanConfig(random=RandomWan(seed=3)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_ids_follow_everything_that_decides_a_latent(wan: Codec) -> None:
    configs = [
        PixelConfig(),
        PixelConfig(stride=4),
        PixelConfig(scale=0.5),
        WanConfig(random=RandomWan()),
        WanConfig(random=RandomWan(seed=1)),
        WanConfig(random=RandomWan(base_dim=12)),
    ]
    ids = [describe_codec(config).codec_id for config in configs]
    assert len(set(ids)) == len(ids)
    assert ids[3] == wan.codec_id
    assert ids[0] == load_codec(PixelConfig()).codec_id


def test_sides_must_divide_into_cells(wan: Codec) -> None:
    with pytest.raises(UserError, match="multiples of 16"):
        wan.encode(pictures(1, 3, 40, 32))
    with pytest.raises(UserError, match="multiples of 2"):
        load_codec(PixelConfig()).encode(pictures(1, 3, 15, 16))


def test_wrong_weights_are_one_clear_sentence(tmp_path) -> None:
    with pytest.raises(UserError, match="do not exist"):
        load_codec(WanConfig(path="/nowhere/wan"))
    with pytest.raises(UserError, match="lacks its revision"):
        load_codec(WanConfig(path="Wan-AI/Wan2.2-TI2V-5B-Diffusers", subfolder="vae"))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_codec(WanConfig(path=str(tmp_path)))
    with pytest.raises(ValidationError, match="exactly one"):
        WanConfig()
