"""What a picture is drawn from besides noise: prompt, negative prompt and reference, through the frozen models.

Dimension key
    token  tokens of all contexts, one after the other    layer  hidden states    dim  width of the tower
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mos.encoders.understanding import Encoded, Tower
from mos.errors import UserError
from mos.model.context import Context, ContextLayout
from mos.states.packed import PackedStates

Tokens = tuple[tuple[str, ...], ...]
"""Tokens of each context, as the tower spells them."""


def encode_contexts(
    tower: Tower,
    texts: Sequence[str],
    references: Sequence[Image.Image | None],
    layers: Sequence[int] | None = None,
) -> tuple[PackedStates, Tokens]:
    """Hidden states of texts, packed as tables keep them in bf16, and their tokens.

    A tower that sees images reads the reference with a prompt and with a negative prompt, as in training; equal
    contexts are encoded once.

    Args:
        tower: reads them.
        texts: one or more.
        references: picture to edit of each.
        layers: the hidden states that a model reads; None: all of them.
    """
    images = [reference if tower.sees_images else None for reference in references]
    keys = [(text, id(image)) for text, image in zip(texts, images, strict=True)]
    distinct = {key: position for position, key in reversed(list(enumerate(keys)))}
    order = sorted(distinct.values())
    encoded = tower.encode([texts[i] for i in order], [images[i] for i in order] if tower.sees_images else None)
    found: dict[tuple[str, int], Encoded] = {keys[i]: result for i, result in zip(order, encoded, strict=True)}
    read = slice(None) if layers is None else list(layers)
    states = [found[key].states[:, read] for key in keys]
    offsets = torch.tensor([0, *(len(one) for one in states)]).cumsum(0)
    return PackedStates("bf16", offsets, torch.cat(states)), tuple(tuple(found[key].tokens) for key in keys)


def context_of(states: PackedStates, device: torch.device, dtype: torch.dtype) -> Context:
    """What the model reads: on its device, and in its dtype unless they are quantised."""
    layout = ContextLayout.of(states.offsets.cpu())
    if states.format == "bf16":
        plain: Float[Tensor, "token layer dim"] = states.codes
        return Context(plain, layout).to(device, dtype)
    return Context(states, layout).to(device)


def states_for(states: PackedStates, name: str, layers: Sequence[int], dim: int) -> PackedStates:
    """The hidden states that a model reads, of those of a whole tower or of a table that holds just these.

    Args:
        states: of either.
        name: what the caller knows them by.
        layers: their place in the tower.
        dim: width of the tower.

    Raises:
        UserError: they are of another tower.
    """
    if states.dim == dim and states.num_layers == len(layers):
        return states
    if states.dim == dim and states.num_layers > layers[-1]:
        return states.select(list(layers))
    raise UserError(
        f"{name} has {states.num_layers} hidden states of width {states.dim} for each token, the model reads "
        f"{len(layers)} of width {dim}: pass what encode_prompt of this pipeline gives, or rows of the states table "
        "it was trained on"
    )
