import math

import pytest
import torch

from mos.flow.timestep import LogitNormalTimesteps, ModeTimesteps, UniformTimesteps, shift_towards_noise, timesteps

U = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000


@pytest.mark.parametrize("config", [UniformTimesteps(), LogitNormalTimesteps(), ModeTimesteps()], ids=lambda c: c.type)
def test_timesteps_stay_in_the_unit_interval(config):
    t = timesteps(config, U)
    assert t.min() >= 0
    assert t.max() <= 1


def test_logit_normal_has_its_moments():
    logits = torch.logit(timesteps(LogitNormalTimesteps(mean=0.5, std=0.8), U))
    assert math.isclose(logits.mean(), 0.5, abs_tol=1e-3)
    assert math.isclose(logits.std(), 0.8, abs_tol=1e-3)


def test_mode_density_matches_its_formula():
    # The density of t = f(u) is 1 / |f'(u)|; compare it with a histogram of the samples.
    s = 0.8
    t = timesteps(ModeTimesteps(scale=s, shift=1.0), U)
    counts = torch.histc(t, bins=20, min=0, max=1) / len(U) * 20
    slope = 1 + s * (1 - math.pi / 2 * torch.sin(math.pi * U))
    at_half = (1 / slope)[len(U) // 2]
    assert math.isclose(counts[9:11].mean(), at_half, rel_tol=0.05)
    assert counts[10] > counts[0]


def test_shift_moves_weight_to_noise_and_keeps_the_ends():
    t = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(shift_towards_noise(t, 3.0), torch.tensor([0.0, 0.75, 1.0]))
    assert timesteps(ModeTimesteps(), U).mean() > 0.6


def test_scale_outside_the_monotone_range_is_refused():
    with pytest.raises(ValueError, match="less than or equal"):
        ModeTimesteps(scale=2.0)
