from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan

from mos.encoders.load import codec_of, load_codec, load_vae
from mos.encoders.understanding import LlamaConfig, MiniLMConfig
from mos.encoders.vae import PixelConfig, RandomWan, ShapesVaeConfig, VaeConfig, WanConfig
from mos.errors import UserError
from mos.flow.solver import linear_quadratic_schedule
from mos.sampling.export import read_export_config
from mos.sampling.parts import PARTS, codec_inside, euler_scheduler, inside, load_part, require_fit
from mos.sampling.pipeline import MoSPipeline
from tests.mos.sampling.tiny_export import TINY, save_new_export

CODECS = [PixelConfig(stride=4, scale=1.5), WanConfig(random=RandomWan(seed=2)), ShapesVaeConfig()]


def test_the_scheduler_takes_the_times_that_it_is_given() -> None:
    scheduler, times = euler_scheduler(), linear_quadratic_schedule(20)
    scheduler.set_timesteps(sigmas=times[:-1].tolist())
    assert torch.equal(scheduler.sigmas, times)
    assert torch.equal(scheduler.timesteps, times[:-1] * 1000)


@pytest.mark.parametrize("config", CODECS)
def test_a_vae_of_any_codec_makes_the_codec_s_own_latents(config: VaeConfig) -> None:
    vae, codec = load_vae(config), load_codec(config)
    view = codec_of(vae, torch.device("cpu"))
    pictures = torch.randint(0, 256, (3, 3, 48, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    latents = view.encode(pictures)
    torch.testing.assert_close(latents, codec.encode(pictures))
    assert torch.equal(view.decode(latents), codec.decode(latents))
    frames = view.decode_frames(latents)
    assert torch.equal(((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), view.decode(latents))
    assert (view.channels, view.stride) == (codec.channels, codec.stride)


@pytest.mark.parametrize("config", CODECS)
def test_a_vae_in_a_folder_is_the_same(config: VaeConfig, tmp_path: Path) -> None:
    vae = load_vae(config)
    before = {name: weight.clone() for name, weight in vae.state_dict().items()}
    pictures = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    latents = codec_of(vae, torch.device("cpu")).encode(pictures)
    vae.save_pretrained(tmp_path)
    loaded = type(vae).from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in before.items())
    assert torch.equal(codec_of(loaded, torch.device("cpu")).encode(pictures), latents)
    assert codec_inside(vae)["type"] in ("pixel", "wan", "diffusers")


def test_a_shared_wan_vae_follows_its_owner_and_takes_videos_still() -> None:
    vae = load_vae(WanConfig(random=RandomWan(seed=2)))
    assert isinstance(vae, AutoencoderKLWan)
    view = codec_of(vae, torch.device("cpu"))
    latents = torch.randn(2, 48, 4, 3, generator=torch.Generator().manual_seed(0))
    whole = view.decode_frames(latents)
    vae.enable_slicing()
    vae.enable_tiling(tile_sample_min_height=32)
    torch.testing.assert_close(view.decode_frames(latents), whole)
    vae.disable_tiling()
    theirs = vae.decode(latents[:, :, None] * 0.1).sample[:, :, 0]
    torch.testing.assert_close(whole.clamp(-1, 1), theirs)
    with torch.no_grad():
        vae.decoder.conv_out.weight.zero_()
    assert not torch.equal(view.decode_frames(latents), whole)


def test_parts_stand_where_an_export_says(tmp_path: Path) -> None:
    folder = save_new_export(tmp_path / "export", vae={"type": "shapes"})
    config = read_export_config(folder)
    parts = {name: load_part(name, folder, config, None) for name in PARTS}
    assert [type(part).__name__ for part in parts.values()][:4] == [
        "MoSTransformer",
        "FlowMatchEulerDiscreteScheduler",
        "AutoencoderDC",
        "BertModel",
    ]
    half = {"text_encoder": torch.bfloat16, "default": torch.float16}
    dtypes = [load_part(name, folder, config, half).dtype for name in ("transformer", "vae", "text_encoder")]
    assert dtypes == [torch.float16, torch.float16, torch.bfloat16]


def test_a_folder_of_its_own_names_no_other_place() -> None:
    assert inside(MiniLMConfig(path="/data/minilm", max_tokens=32))["path"] is None
    llama = inside(LlamaConfig(path="owner/name", revision="a" * 40, template="x {text}"))
    assert (llama["path"], llama["revision"], llama["template"]) == ("text_encoder", None, "x {text}")
    assert codec_inside(None) is None


def test_a_tower_of_fewer_layers_is_refused(pipe: MoSPipeline) -> None:
    require_fit(TINY, pipe.tower, pipe.codec)
    require_fit(TINY, None, None)
    some = TINY.model_copy(update={"routed_layers": (1, 2, 3, 4, 5, 6)})
    require_fit(some, pipe.tower, None)
    deeper = TINY.model_copy(update={"state_layers": 7})
    with pytest.raises(UserError, match="has 6 layers of width 384, but the model was trained on 7"):
        require_fit(deeper, pipe.tower, None)
