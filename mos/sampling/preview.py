"""A grid of pictures drawn during training: always the same captions and noise, so that grids of one stage compare.

Dimension key
    batch  pictures of the grid, of one size      c, h, w  latent channels and grid
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mos.encoders.vae import Codec
from mos.model.context import Context
from mos.model.mos import MoS
from mos.sampling.config import SamplerConfig
from mos.sampling.denoise import denoise
from mos.sampling.noise import seeded_noise
from mos.sampling.pictures import to_images
from mos.states.packed import PackedStates, concatenate


@dataclass(frozen=True)
class PreviewInputs:
    """Inputs of the pictures."""

    contexts: list[PackedStates]
    """Hidden states of each caption."""
    null_contexts: list[PackedStates]
    """What takes their place in the unconditional half."""
    latents: Float[Tensor, "batch c h w"]
    """The captions' own pictures: they give the size."""
    reference: Float[Tensor, "batch c h w"] | None
    """Latents of the pictures to edit."""


class Preview:
    """Draws one grid after so many steps, and writes it where this rank is the one to."""

    def __init__(
        self,
        inputs: PreviewInputs,
        sampler: SamplerConfig,
        codec: Codec,
        folder: Path | None,
        device: torch.device,
        say: Callable[[str], None] = print,
    ) -> None:
        """`folder` is None on the ranks that only take part in drawing; `say` is told of a grid that finds no room."""
        self._say = say
        contexts = inputs.contexts + inputs.null_contexts * (sampler.guidance > 1)
        self._context = Context.of(concatenate(contexts)).to(device)
        shape = inputs.latents.shape[1:]
        self._noise = seeded_noise(range(len(inputs.latents)), (shape[0], shape[1], shape[2])).to(device)
        self._reference = None if inputs.reference is None else inputs.reference.to(device)
        self._sampler = sampler
        self._codec = codec
        self._folder = folder

    def __call__(self, model: MoS, step: int) -> None:
        """Draw with the weights the model carries now; every rank of a sharded model calls this together."""
        latents = denoise(model, self._noise, self._context, self._sampler, reference=self._reference)
        if self._folder is None:
            return
        if not latents.isfinite().all():
            self._say(f"no pictures of step {step}: their values are not finite")
            return
        rows = [to_images(self._codec.decode(latents))]
        if self._reference is not None:
            rows.insert(0, to_images(self._codec.decode(self._reference)))
        grid = picture_grid([image for pair in zip(*rows, strict=True) for image in pair])
        path = self._folder / f"step-{step:09d}.png"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            grid.save(path)
        except OSError as error:
            with suppress(OSError):  # a file system that takes nothing may not let go of anything either
                path.unlink(missing_ok=True)
            self._say(f"pictures {path} could not be written ({error}): training goes on without them")


def picture_grid(images: list[Image.Image], gap: int = 2) -> Image.Image:
    """Pictures of one size side by side, as near to a square as an even number of columns comes."""
    columns = min(len(images), 2 * math.ceil(math.sqrt(len(images)) / 2))
    width, height = (side + gap for side in images[0].size)
    grid = Image.new("RGB", (columns * width + gap, -(-len(images) // columns) * height + gap), "white")
    for number, image in enumerate(images):
        grid.paste(image, (gap + number % columns * width, gap + number // columns * height))
    return grid
