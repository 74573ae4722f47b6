"""The loss of one sample, against its formula."""

import pytest
import torch

from mos.flow.path import interpolate, velocity
from mos.losses.sample import LeftOut, fixed_noise, fixed_timesteps, measure_sample
from mos.model.context import Context
from mos.states.packed import PackedStates, concatenate
from tests.mos.sampling.tiny_export import TINY, random_model

DIM, LAYERS = TINY.state_dim, TINY.state_layers + 1


def states(num_tokens: int, seed: int = 0) -> PackedStates:
    codes = torch.randn(num_tokens, LAYERS, DIM, generator=torch.Generator().manual_seed(seed)).bfloat16()
    return PackedStates("bf16", torch.tensor([0, num_tokens]), codes)


def latent(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(TINY.latent_channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width", "tokens", "num"), [(6, 10, 1, 1), (8, 4, 5, 3), (2, 2, 17, 8)])
@pytest.mark.parametrize("edits", [False, True])
def test_it_is_the_mean_over_the_timesteps_of_equation_1(height, width, tokens, num, edits):
    model, z_0, context = random_model(), latent(height, width), states(tokens)
    reference = latent(height, width, seed=1) if edits else None
    total = 0.0
    for number in range(num):
        t = torch.tensor([(number + 0.5) / num])
        z_1 = fixed_noise(num, tuple(z_0.shape))[number][None]
        with torch.no_grad():
            guessed = model(
                interpolate(z_0[None], z_1, t),
                t,
                Context.of(concatenate([context])),
                reference=None if reference is None else reference[None],
            )
        total += float((guessed - velocity(z_0[None], z_1)).double().square().mean())
    assert measure_sample(model, z_0, context, reference, num) == pytest.approx(total / num, rel=1e-5)


def test_timesteps_are_even_and_noises_are_their_own_and_the_same_every_time():
    assert fixed_timesteps(4).tolist() == [0.125, 0.375, 0.625, 0.875]
    noise = fixed_noise(3, (2, 4, 6)).clone()
    fixed_noise.cache_clear()
    assert torch.equal(fixed_noise(3, (2, 4, 6)), noise)
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(fixed_noise(2, (2, 4, 6)), noise[:2])  # a noise is that of its number


def test_it_tells_samples_apart():
    model = random_model()
    losses = {measure_sample(model, latent(4, 4, seed), states(3, seed), None, 4) for seed in range(5)}
    assert len(losses) == 5


def test_what_is_not_finite_has_a_reason():
    model, good, broken = random_model(), latent(4, 4), latent(4, 4)
    broken[0, 0, 0] = torch.inf
    bad_states = states(3)
    bad_states.codes[0, 0, 0] = torch.nan
    assert measure_sample(model, good, bad_states, None, 2) is LeftOut.STATES_NOT_FINITE
    assert measure_sample(model, broken, states(3), None, 2) is LeftOut.LATENT_NOT_FINITE
    assert measure_sample(model, good, states(3), broken, 2) is LeftOut.LATENT_NOT_FINITE
    with torch.no_grad():
        model.patch_out.weight.fill_(torch.inf)
    assert measure_sample(model, good, states(3), None, 2) is LeftOut.LOSS_NOT_FINITE
