"""What a picture is drawn from besides noise: prompt, negative prompt and reference, through the frozen models.

Dimension key
    batch  pictures       c, h, w  latent channels and grid
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mos.encoders.understanding import Encoded, Tower
from mos.model.context import Context


@dataclass(frozen=True)
class Conditioning:
    """Inputs of the model that stay the same from noise to picture."""

    context: Context
    """Hidden states of the prompts, and behind them those of the negative prompts where guidance is on."""
    tokens: tuple[tuple[str, ...], ...]
    """Each prompt's tokens, as the tower spells them."""
    reference: Float[Tensor, "batch c h w"] | None
    """Clean latents of the pictures to edit."""

    @property
    def conditional(self) -> Context:
        """The prompts' half of the context."""
        return self.context[: len(self.tokens)]


def encode_contexts(
    tower: Tower,
    prompts: Sequence[str],
    references: Sequence[Image.Image | None],
    negative_prompt: str | None,
    layers: Sequence[int] | None = None,
) -> tuple[Context, tuple[tuple[str, ...], ...]]:
    """Hidden states of the prompts, then of the negative prompt once for each, and the prompts' tokens.

    A tower that sees images reads the reference with the prompt and with the negative prompt, as in training;
    equal contexts are encoded once. `negative_prompt` is None where guidance is off. `layers` are the hidden states
    that the model reads; None: all of them.
    """
    texts = list(prompts) + ([] if negative_prompt is None else [negative_prompt] * len(prompts))
    images = [reference if tower.sees_images else None for reference in references] * (len(texts) // len(prompts))
    keys = [(text, id(image)) for text, image in zip(texts, images, strict=True)]
    distinct = {key: position for position, key in reversed(list(enumerate(keys)))}
    order = sorted(distinct.values())
    encoded = tower.encode([texts[i] for i in order], [images[i] for i in order] if tower.sees_images else None)
    found: dict[tuple[str, int], Encoded] = {keys[i]: result for i, result in zip(order, encoded, strict=True)}
    read = slice(None) if layers is None else list(layers)
    context = Context.of([found[key].states[:, read] for key in keys])
    return context, tuple(tuple(found[key].tokens) for key in keys[: len(prompts)])
