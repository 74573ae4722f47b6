"""The schedule of Appendix A, and what is decayed."""

import itertools

import pytest
import torch

from mos.training.optimizer import OptimizerConfig, Optimizers, hidden_matrices, learning_rate
from tests.mos.training.tiny import tiny_model


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


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_weights_of_linear_layers_decay_and_nothing_else(kind):
    model = tiny_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizers = Optimizers(OptimizerConfig(type=kind, lr=0.1, final_lr=0.1, weight_decay=0.5), model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(0.1, torch.ones(()))
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, before[name] * (0.95 if name in linear else 1.0))
    assert "registers" in before
    assert before["registers"].any()


def test_a_rate_that_would_rise_is_refused():
    with pytest.raises(ValueError, match=r"final_lr = 0.01 exceeds lr = 0.001"):
        OptimizerConfig(lr=1e-3, final_lr=1e-2)


def test_muon_takes_what_lies_between_hidden_widths():
    model = tiny_model()
    names = {
        name for name, parameter in model.named_parameters() if any(parameter is m for m in hidden_matrices(model))
    }
    assert {"blocks.0.kv.weight", "blocks.1.state_in.weight", "router.blocks.0.qkv.weight"} <= names
    assert not names & {"patch_in.weight", "patch_out.weight", "router.head.weight", "registers"}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_norm_that_is_not_finite_changes_nothing(kind):
    model, other = tiny_model(), tiny_model()
    optimizers, unbroken = (Optimizers(OptimizerConfig(type=kind), each) for each in (model, other))
    draw = torch.Generator().manual_seed(0)
    for number in range(3):
        grads = [torch.randn(parameter.shape, generator=draw) for parameter in model.parameters()]
        steps = [(model, optimizers), (other, unbroken)] if number != 1 else [(model, optimizers)]
        for each, its in steps:
            for parameter, grad in zip(each.parameters(), grads, strict=True):
                parameter.grad = grad.clone() if number != 1 else grad / 0
            its.step(1e-2, torch.tensor(1.0 if number != 1 else float("inf")))
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)
