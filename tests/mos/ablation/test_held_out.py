"""The two sides of a stage's samples, and the loss on the one that is not trained on."""

import hashlib
from pathlib import Path

import lance
import pyarrow as pa
import pytest
import torch

from mos.ablation.held_out import held_out_loss, split
from mos.training.loop import sample_losses
from tests.mos.training.tiny import tiny_batch, tiny_model


@pytest.mark.parametrize("filter", ["", "words > 1 OR words = 0"])
def test_every_sample_is_on_one_side_and_the_share_is_about_what_was_asked_for(tmp_path: Path, filter: str):
    ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2000)]
    table = pa.table({"sample_id": ids, "words": [number % 3 for number in range(2000)]})
    dataset = lance.write_dataset(table, str(tmp_path / "t.lance"))
    training, held_out = split(filter, 0.1)
    sides = [set(dataset.to_table(filter=side)["sample_id"].to_pylist()) for side in (training, held_out)]
    everything = set(dataset.to_table(filter=filter or None)["sample_id"].to_pylist())
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == everything
    assert len(sides[1]) == pytest.approx(0.1 * len(everything), rel=0.2)


def test_the_loss_is_the_mean_over_samples_and_changes_no_weight():
    model = tiny_model()
    batches = [tiny_batch(0), tiny_batch(1)[:3]]
    with torch.no_grad():
        losses = torch.cat([sample_losses(model, batch) for batch in batches])
    assert held_out_loss(model, iter(batches)) == pytest.approx(float(losses.mean()), rel=1e-6)
    assert len(losses) == 11
    assert all(parameter.grad is None for parameter in model.parameters())
