import io

import pytest
import torch

from mos.model.routing import route
from mos.sampling.trace import (
    RouterRecorder,
    RouterTrace,
    last_layer_share,
    layer_profile,
    nearest_step,
    routing_entropy,
    token_divergence,
    token_maps,
)

STEPS, TOKENS, LAYERS, BLOCKS = 4, 5, 6, 3
PLACES = (1, 2, 4, 6, 9, 12)


def trace_of(logits: torch.Tensor) -> RouterTrace:
    """The trace of known logits [step, ctx, layer, block], top-2."""
    recorder = RouterRecorder(tuple(f"token{i}" for i in range(logits.shape[1])), PLACES)
    for t, step in zip(torch.linspace(1, 0.25, len(logits)).tolist(), logits, strict=True):
        recorder.add(t, route(step[None], top_k=2))
    return recorder.finish()


@pytest.fixture
def random_trace() -> RouterTrace:
    return trace_of(torch.randn(STEPS, TOKENS, LAYERS, BLOCKS, generator=torch.Generator().manual_seed(0)))


def test_every_view_is_a_distribution(random_trace: RouterTrace) -> None:
    torch.testing.assert_close(layer_profile(random_trace).sum(dim=1), torch.ones(STEPS))
    torch.testing.assert_close(token_maps(random_trace).sum(dim=1), torch.ones(TOKENS, BLOCKS))


def test_picks_are_the_heaviest_layers(random_trace: RouterTrace) -> None:
    weights, picked = random_trace.weights, random_trace.picked
    assert (picked.sum(dim=2) == 2).all()
    assert (weights.masked_fill(~picked, 1).amin(dim=2) >= weights.masked_fill(picked, 0).amax(dim=2)).all()


def test_equal_logits_are_flat_everywhere() -> None:
    trace = trace_of(torch.zeros(STEPS, TOKENS, LAYERS, BLOCKS))
    torch.testing.assert_close(layer_profile(trace), torch.full((STEPS, LAYERS), 1 / LAYERS))
    torch.testing.assert_close(routing_entropy(trace), torch.ones(STEPS))
    torch.testing.assert_close(last_layer_share(trace), torch.full((STEPS,), 1 / LAYERS))
    torch.testing.assert_close(token_divergence(trace), torch.zeros(STEPS))


def test_a_one_hot_router_is_seen_exactly() -> None:
    layers = torch.arange(TOKENS) % LAYERS
    logits = torch.full((STEPS, TOKENS, LAYERS, BLOCKS), -50.0)
    logits[:, torch.arange(TOKENS), layers] = 50.0
    trace = trace_of(logits)
    expected = torch.nn.functional.one_hot(layers, LAYERS).float()
    torch.testing.assert_close(token_maps(trace), expected[:, :, None].expand(-1, -1, BLOCKS))
    torch.testing.assert_close(layer_profile(trace)[0], expected.mean(dim=0))
    torch.testing.assert_close(routing_entropy(trace), torch.zeros(STEPS), atol=1e-6, rtol=0)
    torch.testing.assert_close(token_divergence(trace), torch.full((STEPS,), torch.log2(torch.tensor(5.0)).item()))


def test_padding_is_left_out() -> None:
    recorder = RouterRecorder(("a", "b"), PLACES, sample=1)
    recorder.add(1.0, route(torch.randn(2, 7, LAYERS, BLOCKS), top_k=2))
    assert recorder.finish().weights.shape == (1, 2, LAYERS, BLOCKS)


def test_steps_run_from_noise_to_data(random_trace: RouterTrace) -> None:
    assert nearest_step(random_trace, 1.0) == 0
    assert nearest_step(random_trace, 0.0) == STEPS - 1
    assert torch.equal(token_maps(random_trace, t=1.0), random_trace.weights[0])


def test_a_trace_survives_its_file(random_trace: RouterTrace) -> None:
    file = io.BytesIO()
    random_trace.save(file)
    file.seek(0)
    loaded = RouterTrace.load(file)
    assert (loaded.tokens, loaded.layers) == (random_trace.tokens, PLACES)
    assert torch.equal(loaded.picked, random_trace.picked)
    assert torch.equal(loaded.timesteps, random_trace.timesteps)
    torch.testing.assert_close(loaded.weights, random_trace.weights, atol=1e-3, rtol=1e-3)
