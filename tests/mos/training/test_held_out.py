"""The loss on samples that are not trained on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mos.training.held_out import HeldOutFile, HeldOutLoss, best_step, read_held_out, sum_losses
from mos.training.loop import sample_losses
from tests.mos.training.tiny import tiny_batch, tiny_model

SOURCES = ("drawn", "found")
CPU = torch.device("cpu")


def measured(step: int, loss: float) -> HeldOutLoss:
    return HeldOutLoss(step, loss, {"0.00-0.25": loss}, {"drawn": loss}, 4)


def test_the_loss_is_the_mean_over_samples_and_over_each_part_of_them():
    model = tiny_model()
    batches = [(tiny_batch(0), np.array([0, 1] * 4)), (tiny_batch(1)[:3], np.array([1, 1, 0]))]
    with torch.no_grad():
        losses = torch.cat([sample_losses(model, batch) for batch, _ in batches]).numpy()
    found = HeldOutLoss.of(sum_losses(model, iter(batches), 2, CPU), SOURCES, step=7)
    times, source = torch.cat([b.timesteps for b, _ in batches]).numpy(), np.concatenate([s for _, s in batches])
    assert (found.step, found.samples, len(losses)) == (7, 11, 11)
    assert found.loss == pytest.approx(losses.mean(), rel=1e-6)
    assert found.by_source == pytest.approx({n: losses[source == i].mean() for i, n in enumerate(SOURCES)}, rel=1e-6)
    parts = {f"{i / 4:.2f}-{(i + 1) / 4:.2f}": losses[np.minimum(times * 4 // 1, 3) == i] for i in range(4)}
    expected = {name: part.mean() for name, part in parts.items() if len(part)}
    assert found.by_timestep == pytest.approx(expected, rel=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_a_sample_that_is_left_out_does_not_count():
    model, batch = tiny_model(), tiny_batch(0)
    weighted = dataclasses.replace(batch, weight=torch.tensor([1.0] * 7 + [0.0]))
    found = HeldOutLoss.of(sum_losses(model, [(weighted, np.zeros(8, int))], 1, CPU, 3), ("drawn",), 0)
    with torch.no_grad():
        assert found.loss == pytest.approx(float(sample_losses(model, batch)[:7].mean()), rel=1e-6)
    assert found.samples == 7


def test_lines_are_read_by_step_and_the_last_of_a_step_counts(tmp_path: Path):
    assert read_held_out(tmp_path) == []
    file = HeldOutFile(tmp_path)
    for line in (measured(10, 0.5), measured(20, 0.4), measured(20, 0.45), measured(30, 0.6)):
        file.write(line)
    with (tmp_path / "held_out.jsonl").open("a") as torn:
        torn.write('{"step": 40, "lo')
    lines = read_held_out(tmp_path)
    assert lines == [measured(10, 0.5), measured(20, 0.45), measured(30, 0.6)]
    assert best_step(lines) == 20
    assert best_step([]) is None
    assert best_step([measured(1, float("nan"))]) is None
