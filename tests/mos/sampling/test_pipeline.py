from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mos.errors import UserError
from mos.sampling import MosPipeline
from mos.sampling.config import SamplerConfig
from tests.mos.sampling.tiny_export import TINY, save_export

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


@pytest.mark.parametrize(("height", "nearest"), [(33, "32 or 36"), (2, "from 4"), (0, "from 4")])
def test_other_sizes_name_the_nearest(pipe: MosPipeline, height: int, nearest: str) -> None:
    with pytest.raises(UserError, match=nearest):
        pipe("a ring", height=height)


def test_editing_depends_on_the_reference(pipe: MosPipeline) -> None:
    red, blue = (Image.new("RGB", (40, 20), colour) for colour in ("red", "blue"))
    edited = pipe("make it green", reference=red, steps=2)[0]
    assert edited.size == (20, 12)  # the bucket nearest to the reference's aspect
    assert distance(edited, pipe("make it green", reference=blue, steps=2)[0]) > 1
    both = pipe(["make it green"] * 2, reference=[red, blue], steps=2, seed=[0, 0])
    assert distance(edited, both[0]) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": "a", "steps": 0}, "steps = 0"),
        ({"prompts": "a", "guidance": 0.5}, "guidance = 0.5"),
        ({"prompts": "a", "schedule": "cosine"}, "'cosine'"),
        ({"prompts": ["a", "b"], "seed": [1]}, "1 values of seed for 2 prompts"),
        ({"prompts": ["a", "b"], "reference": [Image.new("RGB", (8, 8)), None]}, "no reference"),
        ({"prompts": "a", "steps": 1, "schedule": "linear_quadratic"}, "at least 2"),
    ],
)
def test_mistakes_end_in_one_sentence(pipe: MosPipeline, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipe(**arguments)


def test_a_folder_without_an_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no exported model"):
        MosPipeline.from_export(tmp_path)


def test_a_tower_of_another_width_is_refused(tmp_path: Path) -> None:
    wider = TINY.model_copy(update={"state_dim": 512}).model_dump(mode="json")
    with pytest.raises(UserError, match=r"weights .* cannot be used"):
        MosPipeline.from_export(save_export(tmp_path / "export", model=wider))


def test_a_codec_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="48 latent channels, but the model was trained on 12"):
        MosPipeline.from_export(save_export(tmp_path / "export", vae={"type": "pixel", "stride": 4}))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot be used"):
        MosPipeline.from_export(folder)


def test_a_trace_tells_the_story_of_the_same_picture(pipe: MosPipeline) -> None:
    sampler = SamplerConfig(steps=3)
    traced = pipe.trace("a red circle", sampler, seed=4)
    assert distance(traced.image, pipe("a red circle", steps=3, seed=4)[0]) == 0
    assert len(traced.noisy) == len(traced.predicted) == 3
    assert traced.trace.tokens == ("[CLS]", "a", "red", "circle", "[SEP]")
    assert traced.trace.weights.shape == (3, 5, 6, 3)
    assert (traced.trace.picked.sum(dim=2) == 2).all()


def test_an_export_of_a_context_normed_behind_its_projection_says_so(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"blocks.0.context.norm.weight": torch.ones(32)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="normed the context behind its projection"):
        MosPipeline.from_export(folder)
