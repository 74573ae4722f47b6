"""The loss on samples that are not trained on."""

import pytest
import torch

from mos.ablation.held_out import held_out_loss
from mos.training.loop import sample_losses
from tests.mos.training.tiny import tiny_batch, tiny_model


def test_the_loss_is_the_mean_over_samples_and_changes_no_weight():
    model = tiny_model()
    batches = [tiny_batch(0), tiny_batch(1)[:3]]
    with torch.no_grad():
        losses = torch.cat([sample_losses(model, batch) for batch in batches])
    assert held_out_loss(model, iter(batches)) == pytest.approx(float(losses.mean()), rel=1e-6)
    assert len(losses) == 11
    assert all(parameter.grad is None for parameter in model.parameters())
