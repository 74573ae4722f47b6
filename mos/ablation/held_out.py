"""The velocity loss on samples that no model is trained on, under the same noise for every model."""

from collections.abc import Iterable

import torch

from mos.loader.batch import Batch
from mos.model.mos import MoS
from mos.training.loop import sample_losses


@torch.inference_mode()
def held_out_loss(model: MoS, batches: Iterable[Batch]) -> float:
    """Mean velocity loss over all samples of the batches (paper eq. 1), in the model's dtype, without exploration."""
    model.eval()
    losses = [sample_losses(model, batch) for batch in batches]
    return float(torch.cat(losses).double().mean())
