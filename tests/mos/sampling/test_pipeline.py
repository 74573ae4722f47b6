from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mos.encoders.pixel_codec import PixelCodec
from mos.encoders.understanding import Tower
from mos.encoders.vae import PixelConfig
from mos.errors import UserError
from mos.sampling import MosPipeline
from mos.sampling.config import SamplerConfig
from tests.mos.sampling.tiny_export import random_model, run_of, save_export

PROMPTS = ["a red circle", "two blue squares left of a very long green star", "a ring"]


def distance(first: Image.Image, second: Image.Image) -> int:
    return int(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


def test_three_lines_draw_a_picture(tmp_path: Path) -> None:
    pipe = MosPipeline.from_export(save_export(tmp_path / "export"))
    image = pipe("a red circle", steps=2)[0]
    assert image.size == (16, 16)
    assert image.mode == "RGB"


def test_equal_calls_give_equal_pictures(pipe: MosPipeline) -> None:
    first, second = (pipe("a red circle", steps=3, seed=5)[0] for _ in range(2))
    assert distance(first, second) == 0


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_picture_does_not_depend_on_its_batch(pipe: MosPipeline, batch_size: int) -> None:
    together = pipe(PROMPTS, steps=3, seed=10, batch_size=batch_size)
    for i, prompt in enumerate(PROMPTS):
        assert distance(together[i], pipe(prompt, steps=3, seed=10 + i)[0]) <= 1


def test_seeds_and_prompts_and_settings_matter(pipe: MosPipeline) -> None:
    base = pipe("a red circle", steps=3)[0]
    assert distance(base, pipe("a red circle", steps=3, seed=1)[0]) > 10
    assert distance(base, pipe("a blue star", steps=3)[0]) > 1
    assert distance(base, pipe("a red circle", steps=3, negative_prompt="a blue star")[0]) > 1
    assert distance(base, pipe("a red circle", steps=3, guidance=8.0)[0]) > 1
    assert distance(base, pipe("a red circle", steps=3, schedule="linear_quadratic")[0]) > 1


def test_any_size_that_is_whole_tokens(pipe: MosPipeline) -> None:
    assert pipe("a ring", height=8, width=24, steps=1)[0].size == (24, 8)


def test_editing_depends_on_the_reference(pipe: MosPipeline) -> None:
    red, blue = (Image.new("RGB", (40, 20), colour) for colour in ("red", "blue"))
    edited = pipe("make it green", reference=red, steps=2)[0]
    assert edited.size == (20, 12)  # the bucket nearest to the reference's aspect
    assert distance(edited, pipe("make it green", reference=blue, steps=2)[0]) > 1
    both = pipe(["make it green"] * 2, reference=[red, blue], steps=2, seed=[0, 0])
    assert distance(edited, both[0]) <= 1


def test_pictures_of_several_sizes_come_back_in_order(pipe: MosPipeline) -> None:
    references = [Image.new("RGB", size, "red") for size in ((32, 32), (60, 30), (32, 32), (60, 30))]
    together = pipe(["a", "b", "c", "d"], reference=references, steps=2, batch_size=2)
    for place, (prompt, reference) in enumerate(zip("abcd", references, strict=True)):
        alone = pipe(prompt, reference=reference, steps=2, seed=place)[0]
        assert together[place].size == alone.size
        assert distance(together[place], alone) <= 1


def test_a_rescaled_picture_of_an_untrained_model_is_its_noise(tower: Tower) -> None:
    model = random_model()
    with torch.no_grad():
        model.patch_out.weight.zero_()
    pipe = MosPipeline(model, tower, PixelCodec(PixelConfig()), resolution=16)
    plain, rescaled = (pipe("a", steps=2, guidance_rescale=phi)[0] for phi in (0.0, 0.7))
    assert distance(plain, rescaled) == 0
    assert np.asarray(rescaled).std() > 50


def test_values_that_are_not_finite_are_no_picture(tower: Tower) -> None:
    model = random_model()
    with torch.no_grad():
        model.patch_out.weight[0] = float("nan")
    pipe = MosPipeline(model, tower, PixelCodec(PixelConfig()), resolution=16)
    with pytest.raises(UserError, match=r"picture of seed 5 has values that are not finite: lower guidance = 4"):
        pipe(["a", "b"], steps=1, seed=5)
    with pytest.raises(UserError, match="not finite"):
        pipe.trace("a", SamplerConfig(steps=1))


def test_guidance_beyond_all_measure_is_no_picture(pipe: MosPipeline) -> None:
    with pytest.raises(UserError, match=r"lower guidance = 1e\+39"):
        pipe("a", steps=3, guidance=1e39)


def test_a_model_of_text_alone_does_not_edit(tmp_path: Path) -> None:
    pipe = MosPipeline.from_export(save_export(tmp_path / "export", run=run_of(16, ["generate"])))
    with pytest.raises(UserError, match=r"trained on text alone and cannot edit a picture: load the `export` of an"):
        pipe("make it blue", reference=Image.new("RGB", (32, 32)), steps=1)
    assert pipe("a ring", steps=1)[0].size == (16, 16)


def test_an_export_tells_how_long_its_buckets_are(tmp_path: Path) -> None:
    pipe = MosPipeline.from_export(save_export(tmp_path / "export", run={**run_of(16), "bucket_aspect": 1.0}))
    assert pipe("a", reference=Image.new("RGB", (90, 30)), steps=1)[0].size == (16, 16)


def test_a_device_is_named_in_every_way_or_refused(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    assert MosPipeline.from_export(str(folder), device=torch.device("cpu")).model.patch_in.weight.dtype == torch.float32
    for device in ("gpu", None, 3.5, "cuda:99"):
        with pytest.raises(UserError, match=r"device = .* cannot be used"):
            MosPipeline.from_export(folder, device=device)


def test_a_codec_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="48 latent channels, but the model was trained on 12"):
        MosPipeline.from_export(save_export(tmp_path / "export", vae={"type": "pixel", "stride": 4}))


def test_a_trace_tells_the_story_of_the_same_picture(pipe: MosPipeline) -> None:
    sampler = SamplerConfig(steps=3)
    traced = pipe.trace("a red circle", sampler, seed=4)
    assert distance(traced.image, pipe("a red circle", steps=3, seed=4)[0]) == 0
    assert len(traced.noisy) == len(traced.predicted) == 3
    assert traced.trace.tokens == ("[CLS]", "a", "red", "circle", "[SEP]")
    assert traced.trace.weights.shape == (3, 5, 6, 3)
    assert (traced.trace.picked.sum(dim=2) == 2).all()
