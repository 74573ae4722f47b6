"""What a batch is worth, by formula: tokens, and model FLOPs, from which the utilisation of a device follows (MFU).

Model FLOPs are those that the mathematics needs, forward and backward (PaLM, Chowdhery et al. 2022, appendix B): what
activation checkpointing does again, padding, the average and the optimizer do not count.
"""

from dataclasses import dataclass

import torch

from mos.loader.batch import Batch
from mos.model.mos import ModelConfig
from mos.planning.flops import generation_flops, training_flops

PEAK_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.4,
    "H100": 989.4,
    "H800": 989.4,
    "A100": 312.0,
    "L40S": 362.0,
    "MI300X": 1307.4,
}
"""Dense bfloat16 products of matrices by the makers' data sheets (SXM modules), by a part of the device's name."""


@dataclass(frozen=True)
class Work:
    """Of one update on one rank."""

    tokens: int
    """Image tokens of target and reference, and context tokens."""
    flops: float
    """Model FLOPs."""


def work_of(batch: Batch, model: ModelConfig) -> Work:
    """Work of a batch that is still on the CPU."""
    num, (height, width) = len(batch), batch.latents.shape[-2:]
    image = height * width // model.patch**2
    reference = image if batch.reference is not None else 0
    context = int(batch.context.layout.offsets[-1])
    forward = generation_flops(model, image, context / num, reference)
    return Work(num * (image + reference) + context, num * training_flops(forward, recompute=False))


def peak_flops(device: torch.device) -> float | None:
    """FLOP/s that a device can do at most in bfloat16; None where its maker's figure is not known here."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((tflops * 1e12 for part, tflops in PEAK_TFLOPS.items() if part in name), None)
