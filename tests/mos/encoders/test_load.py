import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mos.encoders.load import CodecSpec, TowerSpec, describe_codec, describe_tower, load_codec, load_tower
from mos.encoders.understanding import InternVLConfig, LlamaConfig, MiniLMConfig
from mos.encoders.vae import PixelConfig, RandomWan, ShapesVaeConfig, VaeConfig, WanConfig
from mos.errors import UserError
from mos.precision import resolve_dtype
from tests.mos.encoders.pictures import pictures
from tests.towers import save_internvl, save_llama


@pytest.mark.parametrize(
    ("save", "kind", "sees_images"), [(save_llama, LlamaConfig, False), (save_internvl, InternVLConfig, True)]
)
def test_description_agrees_with_the_tower(
    save: Callable[[Path], Path], kind: type[LlamaConfig | InternVLConfig], sees_images: bool, tmp_path: Path
) -> None:
    config = kind(path=str(save(tmp_path)), dtype="float32")
    tower, spec = load_tower(config), describe_tower(config)
    assert spec == TowerSpec(tower.tower_id, tower.num_layers, tower.dim, tower.sees_images)
    assert (spec.num_layers, spec.dim, spec.sees_images) == (3, 32, sees_images)


def test_description_needs_no_weights(llama_folder: Path, tmp_path: Path) -> None:
    shutil.copy(llama_folder / "config.json", tmp_path)
    spec = describe_tower(LlamaConfig(path=str(tmp_path), dtype="float32"))
    assert (spec.num_layers, spec.dim, spec.sees_images) == (3, 32, False)


@pytest.mark.parametrize("config", [None, "{", "{}"])
def test_a_folder_without_a_readable_config_is_named(config: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=rf"{tmp_path} has no readable config: "):
        describe_tower(LlamaConfig(path=str(tmp_path), dtype="float32"))


def test_a_checkpoint_of_another_architecture_is_refused(llama_folder: Path) -> None:
    with pytest.raises(UserError, match=r"is a llama checkpoint, tower type 'minilm' loads bert: correct `type`"):
        describe_tower(MiniLMConfig(path=str(llama_folder)))
    with pytest.raises(UserError, match=r"cannot be loaded|lacks"):
        load_tower(MiniLMConfig(path=str(llama_folder)))


def test_a_dtype_left_open_is_that_of_the_device(llama_folder: Path) -> None:
    fast = LlamaConfig(path=str(llama_folder), dtype=resolve_dtype("auto", "cpu"))
    assert load_tower(LlamaConfig(path=str(llama_folder))).tower_id == describe_tower(fast).tower_id


@pytest.mark.parametrize("config", [PixelConfig(stride=4, scale=0.5), WanConfig(random=RandomWan()), ShapesVaeConfig()])
def test_a_codec_is_as_described(config: VaeConfig) -> None:
    codec, spec = load_codec(config), describe_codec(config)
    assert spec == CodecSpec(codec.codec_id, codec.channels, codec.stride)
    assert codec.encode(pictures(1, 3, 32, 48)).shape == (1, spec.channels, 32 // spec.stride, 48 // spec.stride)


def test_ids_follow_everything_that_decides_a_latent() -> None:
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
    assert ids == [describe_codec(config).codec_id for config in configs]


def test_a_codec_that_is_not_there_is_not_described() -> None:
    with pytest.raises(UserError, match="weights /nowhere/wan do not exist"):
        describe_codec(WanConfig(path="/nowhere/wan"))
