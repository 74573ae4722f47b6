"""Samples that no variant is trained on, and the velocity loss on them, under the same noise for every model."""

from collections.abc import Iterable

import torch

from mos.loader.batch import Batch
from mos.model.mos import MoS
from mos.training.loop import sample_losses

DIGITS = 8
"""Hex digits of a sample's id that decide on which side it is."""


def split(filter: str, held_out: float) -> tuple[str, str]:
    """A stage's filter, cut in two by sample id: for training, and held out.

    Ids are hashes of what a sample holds, so the share is the same in every bucket and stays where samples are added.

    Args:
        filter: Lance SQL over the samples table; empty for every row.
        held_out: share to hold out, in (0, 1).
    """
    bound = f"'{round(held_out * 16**DIGITS):0{DIGITS}x}'"
    before = f"({filter}) AND " if filter.strip() else ""
    return f"{before}sample_id >= {bound}", f"{before}sample_id < {bound}"


@torch.inference_mode()
def held_out_loss(model: MoS, batches: Iterable[Batch]) -> float:
    """Mean velocity loss over all samples of the batches (paper eq. 1), in the model's dtype, without exploration."""
    model.eval()
    losses = [sample_losses(model, batch) for batch in batches]
    return float(torch.cat(losses).double().mean())
