"""The checkpoint in the package: small, self-contained, and as good as its card says."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mos.autoencoder.objective import psnr
from mos.checkpoints import CODEC, SHAPES
from mos.encoders.load import load_codec
from mos.encoders.vae import ShapesVaeConfig
from mos.evaluation.cases import scored_prompts
from mos.evaluation.scores import score_pictures
from mos.sampling.config import SamplerConfig
from mos.sampling.draw import draw_pictures, load_for_drawing
from mos.sampling.pipeline import MoSPipeline
from mos.shapes.captions import caption_of
from mos.shapes.checker import check
from mos.shapes.layout import stream, training_scene
from mos.shapes.render import render
from mos.shapes.scene import Background, Category, Colour, Scene, SceneObject, Shape

SAMPLER = SamplerConfig(steps=24, guidance=3.5)


@pytest.fixture(scope="module")
def pipe() -> MoSPipeline:
    return load_for_drawing(SHAPES)


def test_the_weights_are_small_and_in_bfloat16() -> None:
    path = SHAPES / "model.safetensors"
    assert path.stat().st_size <= 16 * 2**20
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.bfloat16}


def test_it_tells_nothing_of_the_machine_it_was_trained_on() -> None:
    for name in ("config.json", "scores.json", "README.md"):
        text = (SHAPES / name).read_text(encoding="utf-8")
        assert not re.search(r"[\"` ]/\w", text), "an absolute path"


def test_it_draws_the_prompt_that_the_readme_shows(pipe: MoSPipeline) -> None:
    circle = SceneObject(Shape.CIRCLE, Colour.RED, 0.26, 0.5, 0.35)
    square = SceneObject(Shape.SQUARE, Colour.BLUE, 0.74, 0.5, 0.35)
    scene = Scene(Category.POSITION, Background.WHITE, (circle, square))
    assert caption_of(scene, stream(0, "any")).endswith("a red circle left of a blue square")
    pictures = draw_pictures(pipe, ["a red circle left of a blue square"] * 4, sampler=SAMPLER)
    results = [check(np.asarray(picture), scene) for picture in pictures]
    assert sum(bool(result.count_correct and result.colour_correct) for result in results) >= 2, (
        "red and blue, one each"
    )


def test_it_is_as_good_as_its_scores_say(pipe: MoSPipeline) -> None:
    recorded = json.loads((SHAPES / "scores.json").read_text(encoding="utf-8"))["categories"]["single_object"]
    prompts = scored_prompts(24, 0, 0)[:24]
    pictures = draw_pictures(pipe, [prompt.text for prompt in prompts], sampler=SAMPLER, batch_size=24)
    score = score_pictures(pictures, prompts).categories[Category.SINGLE_OBJECT]
    assert score.colour >= recorded["colour"] - 0.15
    assert score.correct >= recorded["correct"] - 0.2


def test_the_codec_is_small_and_keeps_scenes_it_has_not_seen() -> None:
    assert sum(path.stat().st_size for path in CODEC.iterdir()) <= 2 * 2**20
    scenes = [training_scene(90_002, index) for index in range(48)]
    for height, width in ((64, 64), (48, 88)):
        drawn = np.stack([render(scene, height, width) for scene in scenes])
        pictures = torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous()
        codec = load_codec(ShapesVaeConfig())
        latents = codec.encode(pictures)
        assert latents.shape == (48, 8, height // 8, width // 8)
        assert latents.std() == pytest.approx(1, abs=0.15)
        decoded = codec.decode(latents)
        assert psnr(decoded, pictures).mean() >= 32
        seen = [check(picture.permute(1, 2, 0).numpy(), scene) for picture, scene in zip(decoded, scenes, strict=True)]
        assert np.mean([result.correct for result in seen]) >= 0.95
