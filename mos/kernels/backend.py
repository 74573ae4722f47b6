"""Where kernels run: the one place that chooses between the Triton path and the plain one."""

import logging

import torch
from torch import Tensor

_logger = logging.getLogger(__name__)
_announced: set[str] = set()


def on_gpu(tensor: Tensor) -> bool:
    """True where the Triton kernels run: on a CUDA device. The first call for each kind of device logs the choice."""
    chosen = tensor.device.type == "cuda"
    if not torch.compiler.is_compiling() and tensor.device.type not in _announced:
        _announced.add(tensor.device.type)
        _logger.info("kernels on %s: %s", tensor.device.type, "Triton" if chosen else "plain torch")
    return chosen
