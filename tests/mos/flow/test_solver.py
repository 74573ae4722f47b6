import pytest
import torch

from mos.errors import UserError
from mos.flow.guidance import guide, rescale
from mos.flow.solver import integrate, linear_quadratic_schedule, linear_schedule


@pytest.mark.parametrize("schedule", [linear_schedule, linear_quadratic_schedule], ids=lambda f: f.__name__)
@pytest.mark.parametrize("num_steps", [2, 7, 50])
def test_schedules_fall_from_noise_to_data(schedule, num_steps):
    times = schedule(num_steps)
    assert len(times) == num_steps + 1
    assert times[0] == 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()


def test_linear_quadratic_is_linear_then_smoothly_quadratic():
    times = linear_quadratic_schedule(50, threshold=0.025).double()
    first, second = times[:26].diff(), times[25:].diff()
    torch.testing.assert_close(first, torch.full_like(first, -0.001), atol=1e-6, rtol=0)
    curvature = second.diff()
    torch.testing.assert_close(curvature, torch.full_like(curvature, curvature[0].item()), atol=1e-6, rtol=0)


def test_euler_is_exact_on_straight_paths():
    z0, z1 = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(integrate(lambda z, t: z1 - z0, z1, linear_schedule(7)), z0, atol=1e-5, rtol=0)


def test_euler_converges_on_a_curved_field():
    # dz/dt = z has z(0) = z(1) / e.
    z1 = torch.ones(1, dtype=torch.float64)
    errors = [abs(integrate(lambda z, t: z, z1, linear_schedule(n)).item() - 1 / torch.e) for n in (50, 100)]
    assert errors[1] < 0.55 * errors[0]


def test_on_step_sees_every_state_before_its_update():
    seen = []
    integrate(
        lambda z, t: torch.ones_like(z),
        torch.ones(1),
        linear_schedule(4),
        on_step=lambda step, z, v, t: seen.append((step, t)),
    )
    assert seen == [(0, 1.0), (1, 0.75), (2, 0.5), (3, 0.25)]


def test_too_few_steps_are_refused():
    with pytest.raises(UserError, match="at least 1"):
        linear_schedule(0)
    with pytest.raises(UserError, match="at least 2"):
        linear_quadratic_schedule(1)


def test_guidance_one_is_the_conditional_and_rescale_restores_its_spread():
    cond, uncond = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(guide(cond, uncond, 1.0), cond)
    guided = guide(cond, uncond, 6.0)
    torch.testing.assert_close(rescale(guided, cond, 0.0), guided)
    full = rescale(guided, cond, 1.0)
    torch.testing.assert_close(full.std(dim=(1, 2, 3)), cond.std(dim=(1, 2, 3)))
