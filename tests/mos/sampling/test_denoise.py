import pytest
import torch

from mos.flow.guidance import guide, rescale
from mos.model.context import Context
from mos.sampling.config import SamplerConfig
from mos.sampling.denoise import denoise, guided_velocity, time_schedule
from mos.sampling.noise import seeded_noise
from tests.mos.sampling.tiny_export import random_model


def random_context(*lengths: int) -> Context:
    generator = torch.Generator().manual_seed(1)
    return Context.of([torch.randn(length, 7, 384, generator=generator) for length in lengths])


@pytest.mark.parametrize("schedule", ["linear", "linear_quadratic"])
@pytest.mark.parametrize("steps", [2, 7, 50])
def test_schedules_fall_from_noise_to_data(schedule: str, steps: int) -> None:
    times = time_schedule(SamplerConfig(steps=steps, schedule=schedule))
    assert len(times) == steps + 1
    assert times[0] == 1.0
    assert times[-1] == 0.0
    assert (times.diff() < 0).all()


def test_guidance_of_one_is_the_conditional_model() -> None:
    model, noise = random_model(), seeded_noise([0, 1], (12, 8, 8))
    pair = random_context(4, 6, 3, 3)
    alone = denoise(model, noise, pair[:2], SamplerConfig(steps=4, guidance=1.0))
    nearly_one = denoise(model, noise, pair, SamplerConfig(steps=4, guidance=1.0 + 1e-6))
    torch.testing.assert_close(alone, nearly_one, atol=1e-4, rtol=0)


def test_guidance_leaves_the_conditional_result() -> None:
    model, noise, pair = random_model(), seeded_noise([0], (12, 8, 8)), random_context(6, 3)
    weak = denoise(model, noise, pair, SamplerConfig(steps=4, guidance=1.5))
    strong = denoise(model, noise, pair, SamplerConfig(steps=4, guidance=8.0))
    assert (weak - strong).abs().max() > 1e-2


def test_guided_velocity_is_guidance_then_rescaling() -> None:
    pair = torch.randn(4, 3, 2, 2)
    conditional, unconditional = pair.chunk(2)
    expected = rescale(guide(conditional, unconditional, 5.0), conditional, 0.7)
    assert torch.equal(guided_velocity(pair, 5.0, 0.7), expected)


def test_rescaling_leaves_a_velocity_without_spread_as_it_is() -> None:
    spread = torch.randn(1, 3, 4, 4)
    for constant in (0.0, 2.0):
        flat = torch.full_like(spread, constant)
        assert torch.equal(rescale(flat, flat, 0.7), flat)
        assert torch.equal(rescale(flat, spread, 1.0), flat)
    mixed = rescale(torch.cat([spread, flat]), torch.cat([2 * spread, spread]), 1.0)
    torch.testing.assert_close(mixed, torch.cat([2 * spread, flat]))
    assert rescale(spread, flat, 1.0).abs().max() == 0


def test_an_untrained_model_leaves_the_noise_as_it_is() -> None:
    model, noise = random_model(), seeded_noise([0], (12, 8, 8))
    with torch.no_grad():
        model.patch_out.weight.zero_()
    assert torch.equal(denoise(model, noise, random_context(6, 3), SamplerConfig(steps=4)), noise)


def test_the_last_prediction_of_one_step_is_the_result() -> None:
    model, noise, predictions = random_model(), seeded_noise([0], (12, 8, 8)), []
    sampler = SamplerConfig(steps=1, guidance=1.0)
    result = denoise(model, noise, random_context(5), sampler, on_step=lambda step: predictions.append(step.z0))
    torch.testing.assert_close(predictions[0], result)


def test_steps_are_reported_in_order() -> None:
    steps = []
    sampler = SamplerConfig(steps=3, guidance=1.0)
    denoise(random_model(), seeded_noise([0], (12, 8, 8)), random_context(5), sampler, on_step=steps.append)
    assert [step.number for step in steps] == [0, 1, 2]
    assert [step.t for step in steps] == time_schedule(sampler)[:-1].tolist()
