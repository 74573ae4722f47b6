"""Scene in, short caption out; and the held-out prompts that the demo is scored on."""

import random
from typing import NamedTuple

from mos.shapes.layout import lone_object, sample_scene, stream
from mos.shapes.scene import Background, Category, Colour, Scene, SceneObject, Shape

NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}
PLURALS = {shape: "crosses" if shape is Shape.CROSS else f"{shape}s" for shape in Shape}
PREFIXES = ("", "", "a photo of ", "a picture of ")
"""Half of the captions have none: few distinct captions, and the words that matter come first."""


class Prompt(NamedTuple):
    """A prompt and what a picture must show to be right."""

    text: str
    scene: Scene
    """Category, colours, shapes, count and relation are required; places and sizes are one example."""


def caption_of(scene: Scene, rng: random.Random) -> str:
    """A caption that promises exactly what the checker will look for."""
    return rng.choice(PREFIXES) + _statement(scene)


def evaluation_prompts(category: Category | str, num: int, seed: int) -> list[Prompt]:
    """Held-out prompts of one category, from a stream that training never draws from.

    Single objects go through all colours x shapes in a shuffled order before any comes again, so that a score over
    64 of them weighs every colour and shape alike.

    Args:
        category: One of the six.
        num: Prompts to make.
        seed: Of the evaluation stream.
    """
    category = Category(category)
    order = [(shape, colour) for shape in Shape for colour in Colour]
    stream(seed, f"evaluate/{category}/order").shuffle(order)
    prompts = []
    for index in range(num):
        rng = stream(seed, f"evaluate/{category}", index)
        if category is Category.SINGLE_OBJECT:
            item = lone_object(*order[index % len(order)], rng)
            scene = Scene(category, rng.choice(list(Background)), (item,))
        else:
            scene = sample_scene(category, rng)
        prompts.append(Prompt(caption_of(scene, rng), scene))
    return prompts


def noun(item: SceneObject) -> str:
    """An object in words: "a red circle"."""
    return with_article(f"{item.colour} {item.shape}")


def with_article(words: str) -> str:
    """Words after "a" or "an"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _statement(scene: Scene) -> str:
    first = scene.objects[0]
    match scene.category:
        case Category.SINGLE_OBJECT:
            return noun(first)
        case Category.COLORS:
            return f"{noun(first)} on {with_article(scene.background)} background"
        case Category.COUNTING:
            return f"{NUMBER_WORDS[len(scene.objects)]} {first.colour} {PLURALS[first.shape]}"
        case Category.POSITION:
            return f"{noun(first)} {scene.relation} {noun(scene.objects[1])}"
        case Category.TWO_OBJECT:
            return " and ".join(with_article(item.shape) for item in scene.objects)
        case Category.COLOR_ATTR:
            return " and ".join(noun(item) for item in scene.objects)
