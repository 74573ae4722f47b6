import pytest
import torch
from torch._dynamo.utils import counters

from mos.model.context import Context
from mos.model.execution import compile_blocks, recompute_blocks


def step(model, inputs):
    out = model(*inputs)
    out.square().mean().backward()
    return [out.detach(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]


def buckets(config):
    """Batches of several picture sizes and context lengths."""
    generator = torch.Generator().manual_seed(5)
    for height, width, lengths in ((6, 10, (7, 3)), (8, 8, (5, 9)), (10, 6, (2, 4)), (4, 12, (11, 6))):
        states = [torch.randn(n, config.state_layers + 1, config.state_dim, generator=generator) for n in lengths]
        latents = torch.randn(2, config.latent_channels, height, width, generator=generator)
        yield latents, torch.rand(2, generator=generator), Context.of(states)


def test_recomputed_blocks_give_the_same_gradients(tiny_config, tiny_inputs, build):
    plain, recomputed = build(tiny_config), build(tiny_config)
    recompute_blocks(recomputed)
    for ours, theirs in zip(step(recomputed, tiny_inputs), step(plain, tiny_inputs), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.usefixtures("without_shape_checks")
def test_one_whole_graph_serves_all_buckets(tiny_config, build, recompute):
    plain, compiled = build(tiny_config), build(tiny_config)
    if recompute:
        recompute_blocks(compiled)
    compile_blocks(compiled, backend="aot_eager")
    for inputs in buckets(tiny_config):
        for model in (plain, compiled):
            model.zero_grad()
        for ours, theirs in zip(step(compiled, inputs), step(plain, inputs), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 2  # one for generation blocks, one for router blocks
