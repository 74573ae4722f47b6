"""Attention of each token over its own layers."""

import torch

from mos.model.context import Context
from mos.model.layer_attention import LayerAttention
from mos.states.calibration import Calibration
from mos.states.quantise import dequantise, quantise

LENGTHS, LAYERS, DIM = (3, 5), 4, 16


def random_states() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(num, LAYERS + 1, DIM, generator=generator) for num in LENGTHS]


def attention() -> LayerAttention:
    module = LayerAttention(dim=6, state_dim=DIM, num_blocks=2)
    torch.nn.init.normal_(module.queries, generator=torch.Generator().manual_seed(1))
    return module


def test_logits_are_scores_of_unit_states():
    module, states = attention(), random_states()
    logits = module(Context.of(states))
    assert logits.shape == (2, 5, LAYERS, 2)
    state = states[1][4, 3]
    unit = state / (state.square().mean() + 1e-6).sqrt()
    expected = module.queries @ (module.key.weight @ unit) / 6**0.5
    torch.testing.assert_close(logits[1, 4, 2], expected)
    assert not logits[0, 3:].any(), "padding has no scores"


def test_the_size_of_a_state_does_not_matter():
    module, states = attention(), random_states()
    larger = module(Context.of([1e3 * each for each in states]))
    torch.testing.assert_close(larger, module(Context.of(states)), atol=1e-4, rtol=1e-4)


def test_packed_states_count_as_what_they_stand_for():
    module, states = attention(), torch.cat(random_states()).bfloat16()
    offsets = torch.tensor([0, 3, 8])
    calibration = Calibration(states.mean(0), states.std(0), torch.zeros(len(states[0]), 1, dtype=torch.int32))
    packed = quantise(states, calibration, "int8", offsets)
    plain = dequantise(packed).float()
    torch.testing.assert_close(module(Context.of(packed)), module(Context.of([plain[:3], plain[3:]])))


def test_queries_and_keys_learn():
    module = attention()
    module(Context.of(random_states())).softmax(2).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in module.parameters())
