"""Noise that a picture begins with: each picture's own, whatever else is drawn with it and on whatever device.

Dimension key
    batch  pictures      c, h, w  latent channels and grid
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mos.errors import UserError

Generators = Generator | Sequence[Generator] | None
"""One for all pictures, which take their noise from it one after the other; or one for each; None: torch's own."""


def generators_of(seeds: Sequence[int]) -> list[Generator]:
    """A generator on the CPU for each seed, in [0, 2^64)."""
    return [Generator().manual_seed(seed) for seed in seeds]


def seeded_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Float[Tensor, "batch c h w"]:
    """Standard normal noise, each picture's from its own seed alone; drawn on the CPU, so equal on every device."""
    return drawn_noise(generators_of(seeds), len(seeds), shape)


def drawn_noise(generator: Generators, num: int, shape: tuple[int, int, int]) -> Float[Tensor, "batch c h w"]:
    """Standard normal noise on the CPU, drawn on each generator's device, picture by picture.

    So the first picture of a generator is the same in a batch of any size, as is the second of at least two.

    Raises:
        UserError: there is not one generator for each picture.
    """
    given: list[Generator | None] = list(generator) if isinstance(generator, Sequence) else [generator] * num
    if len(given) != num or not all(one is None or isinstance(one, Generator) for one in given):
        raise UserError(
            f"generator is a list of {len(given)} for {num} pictures: pass one torch.Generator, or one for each "
            "picture (prompts times num_images_per_prompt)"
        )
    return torch.stack([_one(one, shape) for one in given])


def _one(generator: Generator | None, shape: tuple[int, int, int]) -> Float[Tensor, "c h w"]:
    device = "cpu" if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).cpu()
