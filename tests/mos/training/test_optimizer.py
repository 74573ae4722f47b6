"""The schedule of Appendix A, and what is decayed."""

import itertools

import pytest
import torch

from mos.training.optimizer import OptimizerConfig, build_optimizer, learning_rate


def test_the_rate_rises_linearly_then_falls_along_a_cosine_to_its_floor():
    config = OptimizerConfig(lr=1.0, final_lr=0.2, warmup_steps=4)
    rates = [learning_rate(config, step, 105) for step in range(105)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4] == 1.0
    assert rates[54] == pytest.approx(0.6)
    assert rates[-1] == pytest.approx(0.2)
    assert all(before >= after for before, after in itertools.pairwise(rates[4:]))


def test_the_defaults_are_the_papers():
    config = OptimizerConfig()
    assert learning_rate(config, 3999, 400_000) == pytest.approx(1e-4)
    assert learning_rate(config, 399_999, 400_000) == pytest.approx(1.5e-5)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (5, 3), (4, 5), (0, 2)])
def test_short_stages_have_a_rate_too(warmup, steps):
    config = OptimizerConfig(lr=1.0, final_lr=0.5, warmup_steps=warmup)
    assert all(0 < learning_rate(config, step, steps) <= 1.0 for step in range(steps))


def test_only_matrices_decay():
    matrix, vector = (torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,)))
    optimizer = build_optimizer(OptimizerConfig(lr=0.1, weight_decay=0.5), [matrix, vector])
    for parameter in (matrix, vector):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(matrix, torch.full((2, 2), 0.95))
    assert torch.equal(vector, torch.ones(2))
