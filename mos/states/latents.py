"""The bytes of one latent: float16, `[channel][h][w]`, C order, little endian.

Dimension key
    channels, h, w  latent channels and grid
"""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

LATENT_DTYPE = "float16"
"""Normalised latents stay within a few units: float16 keeps three bits more of them than bfloat16, in as many bytes."""


def pack_latent(latent: Float[Tensor, "channels h w"]) -> bytes:
    """Bytes of one latent.

    Raises:
        ValueError: a value is not finite in float16.
    """
    half = latent.to("cpu", torch.float16)
    if not half.isfinite().all():
        raise ValueError("latent has values that are not finite in float16")
    return half.contiguous().numpy().tobytes()


def unpack_latent(
    payload: bytearray | memoryview, channels: int, grid: tuple[int, int]
) -> Float32[Tensor, "channels h w"]:
    """One latent in float32, in memory of its own.

    Args:
        payload: what `pack_latent` returned, in memory that may be written to.
        channels: of the codec.
        grid: h and w, the bucket's sides divided by the codec's stride.

    Raises:
        ValueError: the payload is not of this shape.
    """
    height, width = grid
    if len(payload) != 2 * channels * height * width:
        raise ValueError(f"a payload of {len(payload)} bytes is no float16 latent of {channels}x{height}x{width}")
    return torch.frombuffer(payload, dtype=torch.float16).view(channels, height, width).float()
