"""Arguments as callers pass them: in every form that Python's own tools have, or refused in one sentence."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mos.encoders.understanding import Tower
from mos.errors import UserError
from mos.sampling import MosPipeline
from mos.sampling.config import SamplerConfig
from mos.sampling.prompts import CutPromptWarning
from tests.mos.sampling.test_pipeline import distance

LONG = " ".join(f"word{number}" for number in range(1600))


def test_numbers_and_texts_of_every_kind_are_taken(pipe: MosPipeline) -> None:
    expected = pipe(["a ring", "a star"], steps=2, seed=[3, 4], height=8, guidance=2.0, batch_size=1)
    kinds = [
        {"steps": np.int64(2), "seed": np.int32(3), "height": np.uint8(8), "guidance": np.float64(2), "batch_size": 1},
        {"steps": 2, "seed": np.array([3, 4]), "height": 8, "guidance": 2, "batch_size": np.int16(5)},
        {"steps": 2, "seed": range(3, 5), "height": 8, "guidance": Fraction(2), "progress": np.False_},
        {"steps": torch.tensor(2), "seed": torch.tensor(3), "height": 8, "guidance": torch.tensor(2.0)},
    ]
    prompts = [("a ring", "a star"), np.array(["a ring", "a star"]), iter(["a ring", "a star"]), ["a ring", "a star"]]
    for given, settings in zip(prompts, kinds, strict=True):
        for one, other in zip(expected, pipe(given, **settings), strict=True):
            assert distance(one, other) <= 1
    assert distance(expected[0], pipe("a ring", steps=2, seed=3, height=8, guidance=2, negative_prompt=None)[0]) <= 1


@pytest.mark.parametrize("guidance", [0, 1, 0.0, np.float32(1)])
def test_guidance_of_0_and_1_is_none(pipe: MosPipeline, guidance: float) -> None:
    plain = pipe("a red circle", steps=2, guidance=1.0)[0]
    assert distance(plain, pipe("a red circle", steps=2, guidance=guidance, negative_prompt="a blue star")[0]) == 0


def test_seeds_are_those_of_torch(pipe: MosPipeline) -> None:
    last, negative = pipe(["a", "a"], steps=1, seed=[2**64 - 1, -1])
    assert distance(last, negative) == 0
    assert distance(pipe(["a", "a"], steps=1, seed=-1)[1], pipe("a", steps=1, seed=0)[0]) <= 1


def test_a_reference_gives_its_aspect(pipe: MosPipeline) -> None:
    wide, tall = Image.new("RGB", (90, 30)), Image.new("RGB", (30, 90))
    assert [picture.size for picture in pipe(["a"] * 2, reference=[wide, tall], steps=1)] == [(20, 12), (12, 20)]
    assert pipe("a", reference=wide, height=16, steps=1)[0].size == (16, 16)


def test_a_prompt_that_is_cut_is_shown(pipe: MosPipeline) -> None:
    with pytest.warns(CutPromptWarning, match=r"is cut after '….*', and the \d+ words from '.*…' on") as caught:
        pipe(["a ring", LONG, LONG], steps=1)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)
    with pytest.warns(CutPromptWarning):
        pipe("a ring", negative_prompt=LONG, steps=1)
    with pytest.warns(CutPromptWarning):
        pipe.trace(LONG, SamplerConfig(steps=1))


def test_what_is_cut_is_what_the_tower_does_not_read(tower: Tower) -> None:
    kept, lost = tower.cut(LONG)
    assert kept + lost == LONG
    whole, short, longer = tower.encode([LONG, kept, kept + lost[:40]])
    assert torch.equal(whole.states, short.states)
    assert torch.equal(whole.states, longer.states)
    assert tower.cut("a red circle") == ("a red circle", "")
    assert tower.cut(f"a [SEP] ring{' ' * 500}")[1].strip() == ""


def test_pictures_that_no_memory_holds_are_refused(pipe: MosPipeline) -> None:
    with pytest.raises(UserError, match=r"height = 800000000 and width = 800000000 .* lower batch_size"):
        pipe("a", height=800_000_000, width=800_000_000, steps=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": None}, "prompts = None is not a text"),
        ({"prompts": 5}, "prompts = 5 is not a text"),
        ({"prompts": Path("a.txt")}, r"prompts = PosixPath\('a.txt'\) is a path, not a text"),
        ({"prompts": b"a"}, "prompts = b'a' is not a text"),
        ({"prompts": {"a": 1}}, "prompts = {'a': 1} is not a text"),
        ({"prompts": ["a", None]}, r"prompts\[1\] = None is not a text"),
        ({"prompts": np.array("a")}, "is not a text"),
        ({"prompts": "a\ud800"}, "is not Unicode text"),
        ({"prompts": "a", "negative_prompt": 3}, "negative_prompt = 3 is not a text"),
        ({"prompts": "a", "batch_size": -1}, "batch_size = -1 is refused: pass a whole number from 1"),
        ({"prompts": "a", "batch_size": 0}, "batch_size = 0"),
        ({"prompts": "a", "batch_size": True}, "batch_size = True"),
        ({"prompts": "a", "steps": 2.0}, "steps = 2.0"),
        ({"prompts": "a", "steps": "2"}, "steps = '2'"),
        ({"prompts": "a", "steps": None}, "steps = None"),
        ({"prompts": "a", "steps": np.array([1, 2])}, r"steps = array\(\[1, 2\]\)"),
        ({"prompts": "a", "seed": 2**64}, r"seed = 18446744073709551616 is refused: pass a whole number from -2\*\*63"),
        ({"prompts": ["a", "b"], "seed": 2**64 - 1}, "seed = 18446744073709551616"),
        ({"prompts": "a", "seed": -(2**63) - 1}, "seed = -9223372036854775809"),
        ({"prompts": "a", "seed": 1.5}, "seed = 1.5"),
        ({"prompts": "a", "seed": "7"}, "seed = '7'"),
        ({"prompts": "a", "seed": None}, "seed = None"),
        ({"prompts": "a", "seed": True}, "seed = True"),
        ({"prompts": "a", "seed": []}, "0 values of seed for 1 prompts"),
        ({"prompts": "a", "seed": {3}}, r"seed = \{3\}"),
        ({"prompts": "a", "guidance": float("nan")}, "guidance = nan is refused: pass a finite number"),
        ({"prompts": "a", "guidance": float("inf")}, "guidance = inf"),
        ({"prompts": "a", "guidance": -1}, "guidance = -1"),
        ({"prompts": "a", "guidance": True}, "guidance = True"),
        ({"prompts": "a", "guidance": "4"}, "guidance = '4'"),
        ({"prompts": "a", "guidance": 10**400}, "guidance = 1000.*… is refused"),
        ({"prompts": "a", "guidance_rescale": float("nan")}, "guidance_rescale = nan"),
        ({"prompts": "a", "guidance_rescale": 1.5}, "guidance_rescale = 1.5"),
        ({"prompts": "a", "height": True}, "height = True"),
        ({"prompts": "a", "width": 16.0}, "width = 16.0"),
        ({"prompts": "a", "width": 2**40}, "width = 1099511627776"),
        ({"prompts": "a", "schedule": None}, "schedule = None"),
        ({"prompts": "a", "progress": "yes"}, "progress = 'yes'"),
        ({"prompts": "a", "reference": 3}, "reference = 3 is no picture: pass a PIL image, a path or the bytes"),
        ({"prompts": "a", "steps": 0}, "steps = 0"),
        ({"prompts": "a", "guidance": 0.5}, "guidance = 0.5 is refused: a scale between 0 and 1 would weaken"),
        ({"prompts": "a", "schedule": "cosine"}, "'cosine'"),
        ({"prompts": ["a", "b"], "seed": [1]}, "1 values of seed for 2 prompts"),
        ({"prompts": "a", "steps": 1, "schedule": "linear_quadratic"}, "at least 2"),
    ],
)
def test_mistakes_end_in_one_sentence(pipe: MosPipeline, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        pipe(**arguments)
    assert "\n" not in str(caught.value)
