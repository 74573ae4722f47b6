from collections.abc import Sequence

import pytest
import torch
from PIL import Image

from mos.encoders.understanding import Encoded, Tower
from mos.errors import UserError
from mos.sampling.conditioning import context_of, encode_contexts, states_for


class SeeingTower:
    """States that name their text and image: one token a letter, filled with the image's red value."""

    tower_id = "seeing"
    num_layers = 1
    dim = 1
    sees_images = True

    def __init__(self) -> None:
        self.encoded: list[tuple[str, int | None]] = []

    def cut(self, text: str) -> tuple[str, str]:
        return text, ""

    def encode(self, texts: Sequence[str], images: Sequence[Image.Image | None] | None = None) -> list[Encoded]:
        shown = [None] * len(texts) if images is None else images
        reds = [None if image is None else image.getpixel((0, 0))[0] for image in shown]
        self.encoded += list(zip(texts, reds, strict=True))
        return [
            Encoded(torch.full((len(text) + 1, 2, 1), float(red or 0), dtype=torch.bfloat16), ["x"] * (len(text) + 1))
            for text, red in zip(texts, reds, strict=True)
        ]


def test_contexts_come_in_order_with_their_tokens(tower: Tower) -> None:
    states, tokens = encode_contexts(tower, ["a red circle", "a ring", "", ""], [None] * 4)
    assert states.codes.shape == (13, 7, 384)
    assert states.offsets.diff().tolist() == [5, 4, 2, 2]
    assert tokens[:2] == (("[CLS]", "a", "red", "circle", "[SEP]"), ("[CLS]", "a", "ring", "[SEP]"))
    assert torch.equal(states.codes[9:11], states.codes[11:])
    context = context_of(states, torch.device("cpu"), torch.float32)
    assert torch.equal(context.states, states.codes.float())
    assert context.layout.mask.sum(dim=1).tolist() == [5, 4, 2, 2]


def test_equal_contexts_are_encoded_once() -> None:
    tower = SeeingTower()
    states, _ = encode_contexts(tower, ["b", "a", "b", "", "", ""], [None] * 6)
    assert tower.encoded == [("b", None), ("a", None), ("", None)]
    assert states.offsets.diff().tolist() == [2, 2, 2, 1, 1, 1]


def test_a_seeing_tower_reads_the_reference_with_both_prompts() -> None:
    tower = SeeingTower()
    dark, light = Image.new("RGB", (2, 2), (3, 0, 0)), Image.new("RGB", (2, 2), (200, 0, 0))
    states, _ = encode_contexts(tower, ["edit", "edit", "", ""], [dark, light] * 2)
    assert sorted(tower.encoded) == [("", 3), ("", 200), ("edit", 3), ("edit", 200)]
    assert states.codes[states.offsets[:-1], 0, 0].tolist() == [3, 200, 3, 200]


def test_a_model_of_fewer_layers_gets_just_those(tower: Tower) -> None:
    whole, _ = encode_contexts(tower, ["a ring"], [None])
    some, _ = encode_contexts(tower, ["a ring"], [None], (0, 2, 6))
    assert torch.equal(some.codes, whole.codes[:, [0, 2, 6]])
    assert torch.equal(states_for(whole, "states", (0, 2, 6), 384).codes, some.codes)
    assert states_for(some, "states", (0, 2, 6), 384) is some
    with pytest.raises(UserError, match="states has 3 hidden states of width 384 for each token, the model reads 4"):
        states_for(some, "states", (0, 2, 5, 6), 384)
