"""Fréchet distance of two sets of pictures, on features of a codec's latents: FID where no Inception weights are.

Dimension key
    num  pictures        feature  2 * 4 * channels of the codec
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from mos.encoders.vae import Codec


@torch.inference_mode()
def codec_features(codec: Codec, pictures: UInt8[Tensor, "num 3 height width"]) -> Float[np.ndarray, "num feature"]:
    """Mean and standard deviation of every latent channel in each quarter of the pictures, all of one size."""
    latents = codec.encode(pictures).float()  # num channels h w
    quarters = [part for half in latents.tensor_split(2, dim=2) for part in half.tensor_split(2, dim=3)]
    kept = [figure for part in quarters for figure in (part.mean((2, 3)), part.std((2, 3), correction=0))]
    return torch.cat(kept, dim=1).double().cpu().numpy()


def frechet_distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of normal distributions fitted to both sets (Heusel et al. 2017).

    Args:
        one: features, num x feature; more pictures than features, for a covariance of full rank.
        other: features of the pictures that it is compared with.
    """
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(first @ second).real.clip(min=0)).sum()
    difference = one.mean(0) - other.mean(0)
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * roots)
