"""Kernels run on the GPU where there is one, in Triton's interpreter otherwise; what they do not write is NaN."""

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def device():
    pytest.importorskip("triton")
    return DEVICE


@pytest.fixture(autouse=True)
def _nan_in_new_memory():
    """Makes torch fill uninitialised memory with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
