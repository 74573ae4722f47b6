"""Arguments as callers pass them: in every form that Python's own tools have, or refused in one sentence."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mos.encoders.understanding import Tower
from mos.errors import UserError
from mos.sampling.config import SamplerConfig
from mos.sampling.draw import draw_pictures
from mos.sampling.noise import generators_of
from mos.sampling.pipeline import MoSPipeline
from mos.sampling.prompts import CutPromptWarning
from mos.sampling.traced import draw_traced

LONG = " ".join(f"word{number}" for number in range(1600))
ONE = SamplerConfig(steps=1)


def distance(first: Image.Image, second: Image.Image) -> int:
    return int(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


def test_numbers_and_texts_of_every_kind_are_taken(pipe: MoSPipeline) -> None:
    def drawn(prompts: object, **settings: object) -> list[Image.Image]:
        return pipe(prompts, generator=generators_of([3, 4]), **settings).images

    expected = drawn(["a ring", "a star"], num_inference_steps=2, height=8, guidance_scale=2.0)
    kinds = [
        {"num_inference_steps": np.int64(2), "height": np.uint8(8), "guidance_scale": np.float64(2)},
        {"num_inference_steps": 2, "height": 8, "guidance_scale": Fraction(2), "num_images_per_prompt": np.int16(1)},
        {"num_inference_steps": torch.tensor(2), "height": 8, "guidance_scale": torch.tensor(2.0)},
    ]
    prompts = [("a ring", "a star"), np.array(["a ring", "a star"]), iter(["a ring", "a star"])]
    for given, settings in zip(prompts, kinds, strict=True):
        for one, other in zip(expected, drawn(given, **settings), strict=True):
            assert distance(one, other) <= 1


@pytest.mark.parametrize("seed", [np.array([3, 4]), range(3, 5), torch.tensor(3), np.int32(3), 3])
def test_seeds_are_whole_numbers_of_every_kind(pipe: MoSPipeline, seed: object) -> None:
    expected = draw_pictures(pipe, ["a ring", "a star"], seed=[3, 4], sampler=ONE)
    found = draw_pictures(pipe, ["a ring", "a star"], seed=seed, sampler=ONE, batch_size=np.int16(5))
    assert all(distance(one, other) <= 1 for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize("guidance", [0, 1, 0.0, np.float32(1)])
def test_guidance_of_0_and_1_is_none(pipe: MoSPipeline, guidance: float) -> None:
    plain, same = (
        pipe("a red circle", negative, generator=generators_of([0]), num_inference_steps=2, guidance_scale=scale)
        for negative, scale in ((None, 1.0), ("a blue star", guidance))
    )
    assert distance(plain.images[0], same.images[0]) == 0


def test_seeds_are_those_of_torch(pipe: MoSPipeline) -> None:
    last, negative = draw_pictures(pipe, ["a", "a"], seed=[2**64 - 1, -1], sampler=ONE)
    assert distance(last, negative) == 0
    _, zero = draw_pictures(pipe, ["a", "a"], seed=-1, sampler=ONE)
    assert distance(zero, draw_pictures(pipe, ["a"], seed=0, sampler=ONE)[0]) <= 1


def test_an_image_gives_its_aspect(pipe: MoSPipeline) -> None:
    wide, tall = Image.new("RGB", (90, 30)), Image.new("RGB", (30, 90))
    drawn = draw_pictures(pipe, ["a"] * 2, image=[wide, tall], sampler=ONE)
    assert [picture.size for picture in drawn] == [(20, 12), (12, 20)]
    assert draw_pictures(pipe, ["a"], image=wide, height=16, sampler=ONE)[0].size == (16, 16)


def test_a_prompt_that_is_cut_is_shown(pipe: MoSPipeline) -> None:
    with pytest.warns(CutPromptWarning, match=r"is cut after '….*', and the \d+ words from '.*…' on") as caught:
        pipe(["a ring", LONG, LONG], num_inference_steps=1)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)
    with pytest.warns(CutPromptWarning):
        pipe("a ring", negative_prompt=LONG, num_inference_steps=1)
    with pytest.warns(CutPromptWarning):
        draw_traced(pipe, LONG, ONE)


def test_what_is_cut_is_what_the_tower_does_not_read(tower: Tower) -> None:
    kept, lost = tower.cut(LONG)
    assert kept + lost == LONG
    whole, short, longer = tower.encode([LONG, kept, kept + lost[:40]])
    assert torch.equal(whole.states, short.states)
    assert torch.equal(whole.states, longer.states)
    assert tower.cut("a red circle") == ("a red circle", "")
    assert tower.cut(f"a [SEP] ring{' ' * 500}")[1].strip() == ""


def test_pictures_that_no_memory_holds_are_refused(pipe: MoSPipeline) -> None:
    with pytest.raises(UserError, match=r"height = 800000000 and width = 800000000 .* draw fewer at a time"):
        pipe("a", height=800_000_000, width=800_000_000, num_inference_steps=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": []}, "no prompt"),
        ({"prompt": 5}, "prompt = 5 is not a text"),
        ({"prompt": Path("a.txt")}, r"prompt = PosixPath\('a.txt'\) is a path, not a text"),
        ({"prompt": b"a"}, "prompt = b'a' is not a text"),
        ({"prompt": {"a": 1}}, "prompt = {'a': 1} is not a text"),
        ({"prompt": ["a", None]}, r"prompt\[1\] = None is not a text"),
        ({"prompt": np.array("a")}, "is not a text"),
        ({"prompt": "a\ud800"}, "is not Unicode text"),
        ({"negative_prompt": 3}, "negative_prompt = 3 is not a text"),
        ({"num_inference_steps": 2.0}, "num_inference_steps = 2.0"),
        ({"num_inference_steps": "2"}, "num_inference_steps = '2'"),
        ({"num_inference_steps": None}, "num_inference_steps = None"),
        ({"num_inference_steps": np.array([1, 2])}, r"num_inference_steps = array\(\[1, 2\]\)"),
        ({"num_inference_steps": 0}, "num_inference_steps = 0 is refused: pass a whole number from 1"),
        ({"num_images_per_prompt": True}, "num_images_per_prompt = True"),
        ({"guidance_scale": float("nan")}, "guidance_scale = nan is refused: pass a finite number"),
        ({"guidance_scale": float("inf")}, "guidance_scale = inf"),
        ({"guidance_scale": -1}, "guidance_scale = -1"),
        ({"guidance_scale": True}, "guidance_scale = True"),
        ({"guidance_scale": "4"}, "guidance_scale = '4'"),
        ({"guidance_scale": 10**400}, r"guidance_scale = 1000.*… is refused"),
        ({"guidance_scale": 0.5}, "guidance_scale = 0.5 is refused: a scale between 0 and 1 would weaken"),
        ({"guidance_rescale": float("nan")}, "guidance_rescale = nan"),
        ({"guidance_rescale": 1.5}, "guidance_rescale = 1.5"),
        ({"height": True}, "height = True"),
        ({"width": 16.0}, "width = 16.0"),
        ({"width": 2**40}, "width = 1099511627776"),
        ({"schedule": None}, "schedule = None"),
        ({"schedule": "cosine"}, "'cosine'"),
        ({"num_inference_steps": 1, "schedule": "linear_quadratic"}, "at least 2"),
        ({"image": 3}, "image = 3 is no picture: pass a PIL image, a path, the bytes"),
    ],
)
def test_mistakes_end_in_one_sentence(pipe: MoSPipeline, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        pipe(**{"prompt": "a", **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": -1}, "batch_size = -1 is refused: pass a whole number from 1"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": True}, "batch_size = True"),
        ({"seed": 2**64}, r"seed = 18446744073709551616 is refused: pass a whole number from -2\*\*63"),
        ({"prompts": ["a", "b"], "seed": 2**64 - 1}, "seed = 18446744073709551616"),
        ({"seed": -(2**63) - 1}, "seed = -9223372036854775809"),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"seed": "7"}, "seed = '7'"),
        ({"seed": None}, "seed = None"),
        ({"seed": True}, "seed = True"),
        ({"seed": []}, "0 values of seed for 1 prompts"),
        ({"seed": {3}}, r"seed = \{3\}"),
        ({"prompts": ["a", "b"], "seed": [1]}, "1 values of seed for 2 prompts"),
        ({"prompts": ["a", "b"], "negative_prompt": ["a"]}, "1 values of negative_prompt for 2 prompts"),
    ],
)
def test_mistakes_in_drawing_many_end_in_one_sentence(pipe: MoSPipeline, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        draw_pictures(pipe, **{"prompts": ["a"], "sampler": ONE, **arguments})
    assert "\n" not in str(caught.value)
