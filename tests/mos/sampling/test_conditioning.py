from collections.abc import Sequence

import torch
from PIL import Image

from mos.encoders.understanding import Encoded, Tower
from mos.sampling.conditioning import encode_contexts


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


def test_prompts_come_before_negative_prompts(tower: Tower) -> None:
    context, tokens = encode_contexts(tower, ["a red circle", "a ring"], [None, None], "")
    assert context.states.shape == (13, 7, 384)
    assert context.layout.offsets.diff().tolist() == [5, 4, 2, 2]
    assert tokens == (("[CLS]", "a", "red", "circle", "[SEP]"), ("[CLS]", "a", "ring", "[SEP]"))
    assert torch.equal(context[2:3].states, context[3:4].states)


def test_without_guidance_there_is_no_negative_half(tower: Tower) -> None:
    context, _ = encode_contexts(tower, ["a ring"], [None], None)
    assert len(context) == 1


def test_equal_contexts_are_encoded_once() -> None:
    tower = SeeingTower()
    context, _ = encode_contexts(tower, ["b", "a", "b"], [None, None, None], "")
    assert tower.encoded == [("b", None), ("a", None), ("", None)]
    assert context.layout.offsets.diff().tolist() == [2, 2, 2, 1, 1, 1]


def test_a_seeing_tower_reads_the_reference_with_both_prompts() -> None:
    tower = SeeingTower()
    dark, light = Image.new("RGB", (2, 2), (3, 0, 0)), Image.new("RGB", (2, 2), (200, 0, 0))
    context, _ = encode_contexts(tower, ["edit", "edit"], [dark, light], "")
    assert sorted(tower.encoded) == [("", 3), ("", 200), ("edit", 3), ("edit", 200)]
    assert context.states[context.layout.offsets[:-1], 0, 0].tolist() == [3, 200, 3, 200]


def test_a_model_of_fewer_layers_gets_just_those(tower: Tower) -> None:
    whole, _ = encode_contexts(tower, ["a ring"], [None], None)
    some, _ = encode_contexts(tower, ["a ring"], [None], None, (0, 2, 6))
    assert torch.equal(some.states, whole.states[:, [0, 2, 6]])
