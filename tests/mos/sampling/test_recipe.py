"""A picture carries what it was drawn from, and nothing of the machine."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from mos.checkpoints import SHAPES
from mos.errors import UserError
from mos.sampling.config import SamplerConfig
from mos.sampling.recipe import KEY, Recipe, model_fingerprint, read_recipe
from tests.mos.sampling.tiny_export import save_export, save_new_export

RECIPE = Recipe(
    prompt="eine Brücke\nüber Wasser",
    negative_prompt="",
    seed=2**64 - 1,
    height=16,
    width=24,
    sampler=SamplerConfig(steps=7, guidance=3.5, schedule="linear_quadratic"),
    model="0" * 64,
    source=None,
)


def test_a_recipe_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (24, 16), "red").save(path, pnginfo=RECIPE.png_info())
    assert read_recipe(path) == RECIPE
    with Image.open(path) as image:
        assert set(image.text) == {KEY}
        assert image.getpixel((0, 0)) == (255, 0, 0)


def test_a_picture_without_a_recipe_says_what_else_may_be_meant(tmp_path: Path) -> None:
    Image.new("RGB", (24, 16)).save(tmp_path / "plain.png")
    with pytest.raises(UserError, match=r"holds no recipe: .* To edit it, pass source="):
        read_recipe(tmp_path / "plain.png")
    (tmp_path / "none.png").write_bytes(b"none")
    with pytest.raises(UserError, match="is no picture that can be read"):
        read_recipe(tmp_path / "none.png")
    info = RECIPE.model_copy(update={"seed": -1}).png_info()
    Image.new("RGB", (24, 16)).save(tmp_path / "other.png", pnginfo=info)
    with pytest.raises(UserError, match="is of another version"):
        read_recipe(tmp_path / "other.png")


def test_a_model_is_known_by_what_it_draws_with(tmp_path: Path) -> None:
    shutil.copytree(SHAPES, tmp_path / "moved")
    assert model_fingerprint(tmp_path / "moved") == model_fingerprint(SHAPES)
    folders = [
        save_export(tmp_path / "a"),
        save_export(tmp_path / "b", seed=1),
        save_export(tmp_path / "c", tower={"type": "minilm", "max_tokens": 32}),
        save_export(tmp_path / "d", vae={"type": "pixel", "scale": 2.0}),
    ]
    assert len({model_fingerprint(folder) for folder in folders}) == 4
    assert model_fingerprint(save_new_export(tmp_path / "e")) == model_fingerprint(folders[0])
