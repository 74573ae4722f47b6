import jaxtyping
import pytest
import torch
from torch._dynamo.utils import counters

from mos.model.context import Context
from mos.model.fusion import RoutedFusion
from mos.model.mos import ModelConfig, MoS
from mos.model.router import RouterConfig


@pytest.fixture
def tiny_config():
    return ModelConfig(
        latent_channels=3,
        patch=2,
        state_dim=20,
        state_layers=5,
        dim=48,
        num_blocks=3,
        num_heads=3,
        ffn_dim=56,
        fusion=RoutedFusion(router=RouterConfig(dim=24, num_heads=2, ffn_dim=40)),
    )


@pytest.fixture
def build():
    """A model of any config with every parameter non-trivial, so that no gradient vanishes by construction."""

    def make(config, seed=0):
        model = MoS(config)
        generator = torch.Generator().manual_seed(seed)
        model.init_weights(generator)
        with torch.no_grad():
            model.patch_out.weight.normal_(0, 0.1, generator=generator)
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        return model

    return make


@pytest.fixture
def tiny_inputs(tiny_config):
    """(latents, timestep, context) on odd shapes: 6x10 latents, contexts of 7, 1 and 4 tokens."""
    generator = torch.Generator().manual_seed(1)
    states = [
        torch.randn(n, tiny_config.state_layers + 1, tiny_config.state_dim, generator=generator) for n in (7, 1, 4)
    ]
    latents = torch.randn(3, tiny_config.latent_channels, 6, 10, generator=generator)
    return latents, torch.rand(3, generator=generator), Context.of(states)


@pytest.fixture
def without_shape_checks():
    """torch.compile does not trace the checks that tests wrap functions in."""
    jaxtyping.config.update("jaxtyping_disable", True)
    torch._dynamo.reset()
    counters.clear()
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch._dynamo.reset()
