"""Latents to tokens and back: patches of p x p latent pixels, row by row.

Dimension key
    batch  samples     channels, height, width  of the latent     img  tokens     patch  channels * p * p
"""

from jaxtyping import Float
from torch import Tensor

from mos.errors import UserError


def patchify(latents: Float[Tensor, "batch channels height width"], p: int) -> Float[Tensor, "batch img patch"]:
    """Cut latents into patches.

    Raises:
        UserError: height or width is not a multiple of the patch size.
    """
    height, width = latents.shape[-2:]
    if height % p or width % p:
        raise UserError(f"latent of {height}x{width} does not divide into patches of {p}: use multiples of {p}")
    patches = latents.unflatten(3, (width // p, p)).unflatten(2, (height // p, p))  # b c H p W p
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(
    tokens: Float[Tensor, "batch img patch"], p: int, height: int, width: int
) -> Float[Tensor, "batch channels height width"]:
    """Inverse of `patchify` for a latent of height x width."""
    grid = tokens.unflatten(1, (height // p, width // p)).unflatten(3, (-1, p, p))  # b H W c p p
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
