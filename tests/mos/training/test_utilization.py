"""Work of a batch by formula, against counting what PyTorch does."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mos.training.loop import sample_losses
from mos.training.utilization import peak_flops, work_of
from tests.mos.training.tiny import MODEL, tiny_batch, tiny_model


def test_tokens_are_those_of_pictures_and_contexts() -> None:
    batch = tiny_batch(0)
    height, width = batch.latents.shape[-2:]
    context = int(batch.context.layout.offsets.diff().sum())
    assert work_of(batch, MODEL).tokens == len(batch) * height * width // MODEL.patch**2 + context


def test_flops_are_about_those_that_pytorch_does() -> None:
    """It also counts padding and attention of padded places; the formula only what the mathematics needs."""
    model, batch = tiny_model(), tiny_batch(0)
    with FlopCounterMode(display=False) as counter:
        sample_losses(model, batch).sum().backward()
    assert work_of(batch, MODEL).flops == pytest.approx(counter.get_total_flops(), rel=0.35)


def test_a_peak_that_is_not_known_is_none() -> None:
    assert peak_flops(torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("name", "peak"), [("NVIDIA H200", 989.4e12), ("NVIDIA H100 80GB HBM3", 989.4e12), ("?", None)]
)
def test_a_device_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda")) == peak
