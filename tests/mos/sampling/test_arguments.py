"""Arguments as callers pass them: in every form that Python's own tools have, or refused in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mos.errors import UserError
from mos.sampling import MosPipeline
from mos.sampling.prompts import CutPromptWarning
from tests.mos.sampling.test_pipeline import distance
from tests.mos.sampling.tiny_export import run_of, save_export

STEPS = {"steps": 1}


@pytest.mark.parametrize(
    "same",
    [
        {"seed": np.int64(7)},
        {"seed": [7]},
        {"seed": np.array([7])},
        {"seed": torch.tensor(7)},
        {"steps": np.int32(1)},
        {"guidance": np.float32(4)},
        {"batch_size": np.uint8(2)},
        {"height": np.int64(16), "width": 16},
        {"negative_prompt": None},
    ],
    ids=str,
)
def test_other_forms_of_a_value_draw_the_same_picture(pipe: MosPipeline, same: dict):
    expected = pipe("a ring", seed=7, guidance=4, steps=1)[0]
    assert distance(pipe("a ring", **{"seed": 7, "guidance": 4, "steps": 1} | same)[0], expected) == 0


@pytest.mark.parametrize("prompts", [("a ring", "a star"), ["a ring", "a star"], np.array(["a ring", "a star"])])
def test_prompts_come_in_any_sequence(pipe: MosPipeline, prompts):
    assert len(pipe(prompts, **STEPS)) == 2


def test_guidance_0_and_1_are_the_conditional_model(pipe: MosPipeline):
    zero, one = (pipe("a ring", guidance=guidance, steps=2)[0] for guidance in (0, 1))
    assert distance(zero, one) == 0
    assert distance(one, pipe("a ring", guidance=4, steps=2)[0]) > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"batch_size": -1}, "batch_size = -1 is refused"),
        ({"batch_size": True}, "batch_size = True is refused"),
        ({"seed": 2**64}, f"seed = {2**64} is refused"),
        ({"seed": 1.5}, "seed = 1.5 is refused"),
        ({"seed": [1, 2]}, "2 values of seed for 1 prompts"),
        ({"steps": 0}, "steps = 0 is refused"),
        ({"steps": "4"}, "steps = '4' is refused"),
        ({"guidance": float("nan")}, "guidance = nan is refused"),
        ({"guidance": float("inf")}, "guidance = inf is refused"),
        ({"guidance": -2}, "guidance = -2"),
        ({"guidance_rescale": 1.5}, "guidance_rescale = 1.5 is refused"),
        ({"schedule": "cosine"}, "schedule = 'cosine' is refused"),
        ({"height": 0}, "height"),
        ({"negative_prompt": 3}, "negative_prompt = 3 is not a text"),
        ({"reference": 3}, "reference = 3 is no picture"),
        ({"reference": "/nowhere.png"}, "reference = '/nowhere.png' cannot be read"),
        ({"reference": b"GIF89a"}, "is not a picture that can be edited"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(pipe: MosPipeline, arguments: dict, sentence: str):
    with pytest.raises(UserError) as caught:
        pipe("a ring", **STEPS | arguments)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        (None, "prompts = None is not a text"),
        (3, "prompts = 3 is not a text"),
        (Path("prompts.txt"), "is a path, not a text"),
        ([], "no prompts were given"),
        (["a ring", None], r"prompts[1] = None is not a text"),
        (b"a ring", "is not a text"),
    ],
    ids=str,
)
def test_prompts_that_are_none(pipe: MosPipeline, prompts, sentence: str):
    with pytest.raises(UserError) as caught:
        pipe(prompts)
    assert sentence in str(caught.value)


def test_a_prompt_that_is_cut_is_shown_where(pipe: MosPipeline):
    long = " ".join(f"word{number}" for number in range(1600))
    with pytest.warns(CutPromptWarning, match=r"it is cut after .*word\d+', and the 1\d\d\d words from 'word\d+"):
        pipe(long, **STEPS)


def test_velocities_of_zero_are_rescaled_to_zero(tmp_path: Path):
    """As a model that was never trained has them; a picture of its noise, not a black one."""
    pipe = MosPipeline.from_export(save_export(tmp_path / "export"))
    torch.nn.init.zeros_(pipe.model.patch_out.weight)
    torch.nn.init.zeros_(pipe.model.patch_out.bias)
    plain, rescaled = (pipe("a ring", steps=3, guidance_rescale=phi)[0] for phi in (0.0, 0.7))
    assert distance(plain, rescaled) == 0
    assert np.asarray(rescaled).std() > 10


def test_weights_that_are_not_finite_end_in_a_sentence(tmp_path: Path):
    pipe = MosPipeline.from_export(save_export(tmp_path / "export"))
    torch.nn.init.constant_(pipe.model.patch_out.bias, float("nan"))
    with pytest.raises(UserError, match="not finite"):
        pipe("a ring", **STEPS)


def test_a_model_of_text_alone_does_not_edit(tmp_path: Path):
    pipe = MosPipeline.from_export(save_export(tmp_path / "export", run=run_of(16, ["generate"])))
    with pytest.raises(UserError, match="was trained on text alone and cannot edit"):
        pipe("make it red", reference=Image.new("RGB", (32, 32)), **STEPS)


def test_a_reference_keeps_its_aspect_unless_a_size_is_given(pipe: MosPipeline):
    reference = Image.new("RGB", (90, 30), "red")
    width, height = pipe("make it blue", reference=reference, **STEPS)[0].size
    assert width > height
    assert pipe("make it blue", reference=reference, height=16, width=16, **STEPS)[0].size == (16, 16)
