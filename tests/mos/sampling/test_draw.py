"""Jobs draw many pictures of any sizes, each as it would be alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mos.checkpoints import SHAPES
from mos.errors import UserError
from mos.images.decode import ImageLimits
from mos.sampling.config import SamplerConfig
from mos.sampling.draw import draw_pictures, load_for_drawing
from mos.sampling.noise import generators_of
from mos.sampling.pipeline import MoSPipeline
from tests.mos.sampling.test_arguments import distance
from tests.mos.sampling.tiny_export import save_export, save_new_export

TWO = SamplerConfig(steps=2)


def test_both_layouts_draw_one_picture(tmp_path: Path) -> None:
    older, newer = save_export(tmp_path / "older"), save_new_export(tmp_path / "newer")
    pictures = [
        draw_pictures(load_for_drawing(folder), ["a ring"], seed=3, sampler=TWO)[0] for folder in (older, newer)
    ]
    plain = MoSPipeline.from_pretrained(newer)
    pictures.append(plain("a ring", generator=generators_of([3]), num_inference_steps=2).images[0])
    assert distance(pictures[0], pictures[1]) == distance(pictures[0], pictures[2]) == 0


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_picture_does_not_depend_on_its_batch(pipe: MoSPipeline, batch_size: int) -> None:
    prompts = ["a red circle", "two blue squares left of a very long green star", "a ring"]
    together = draw_pictures(pipe, prompts, seed=10, sampler=TWO, batch_size=batch_size)
    for place, prompt in enumerate(prompts):
        assert distance(together[place], draw_pictures(pipe, [prompt], seed=10 + place, sampler=TWO)[0]) <= 1


def test_pictures_of_several_sizes_come_back_in_order(pipe: MoSPipeline) -> None:
    images = [Image.new("RGB", size, "red") for size in ((32, 32), (60, 30), (32, 32), (60, 30))]
    together = draw_pictures(pipe, ["a", "b", "c", "d"], image=images, sampler=TWO, batch_size=2)
    for place, (prompt, image) in enumerate(zip("abcd", images, strict=True)):
        alone = draw_pictures(pipe, [prompt], image=image, sampler=TWO, seed=place)[0]
        assert together[place].size == alone.size
        assert distance(together[place], alone) <= 1


def test_each_prompt_has_its_own_negative_prompt(pipe: MoSPipeline) -> None:
    away = ["", "a blue star"]
    both = draw_pictures(pipe, ["a ring", "a ring"], seed=[5, 5], negative_prompt=away, sampler=TWO)
    for found, negative in zip(both, away, strict=True):
        assert distance(found, draw_pictures(pipe, ["a ring"], seed=5, negative_prompt=negative, sampler=TWO)[0]) <= 1
    assert distance(*both) > 1


def test_a_device_is_named_in_every_way_or_refused(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    assert load_for_drawing(str(folder), device=torch.device("cpu")).transformer.dtype == torch.float32
    for device in ("gpu", None, 3.5, "cuda:99"):
        with pytest.raises(UserError, match=r"device = .* cannot be used"):
            load_for_drawing(folder, device=device)


def test_limits_are_those_of_the_caller() -> None:
    pipe = load_for_drawing(SHAPES, limits=ImageLimits(min_side_px=30))
    with pytest.raises(UserError, match="image_too_small"):
        draw_pictures(pipe, ["make it blue"], image=Image.new("RGB", (29, 40)), sampler=TWO)


def test_loading_and_drawing_say_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pipe = load_for_drawing(save_new_export(tmp_path / "export"))
    drawn = draw_pictures(pipe, ["a"], sampler=TWO)
    assert np.asarray(drawn[0]).shape == (16, 16, 3)
    assert capfd.readouterr() == ("", "")
