"""The three names of a sample: its content hash, its perceptual hash, and what must agree before two are compared."""

import hashlib

import imagehash
import numpy as np
from jaxtyping import UInt8
from PIL import Image

HASH_BITS = 64


def sample_id(image_hash: str, reference_hash: str | None, caption: str) -> str:
    """64 hex digits over image, reference and caption: equal exactly for exact duplicates."""
    return hashlib.sha256(f"{image_hash}\n{reference_hash or ''}\n{caption}".encode()).hexdigest()


def pair_id(reference_hash: str | None, caption: str) -> str:
    """16 hex digits that two near duplicates share: the caption (case aside) and, in an edit, the source image."""
    return hashlib.sha256(f"{reference_hash or ''}\n{caption.casefold()}".encode()).hexdigest()[:16]


def perceptual_hash(luma: UInt8[np.ndarray, "height width"]) -> str:
    """64-bit DCT hash (`imagehash.phash`) as 16 hex digits; re-encoding or resizing flips few of its bits."""
    return str(imagehash.phash(Image.fromarray(luma)))
