"""Integrating the flow from noise to data: time schedules and the Euler step (paper algorithm 2, appendix B.6)."""

import itertools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mos.errors import UserError


def linear_schedule(num_steps: int) -> Float[Tensor, " steps_plus_1"]:
    """Equal steps from t = 1 (noise) to t = 0 (data), both ends included.

    Raises:
        UserError: fewer than one step.
    """
    if num_steps < 1:
        raise UserError(f"steps = {num_steps}: sampling needs at least 1 step")
    return torch.linspace(1.0, 0.0, num_steps + 1)


def linear_quadratic_schedule(num_steps: int, threshold: float = 0.025) -> Float[Tensor, " steps_plus_1"]:
    """Small linear steps near noise, then quadratically growing ones (Polyak et al. 2024, Movie Gen).

    The first half of the steps covers 1 - t in [0, threshold] evenly; the rest is the parabola that continues it
    with the same value and slope and ends at t = 0.

    Raises:
        UserError: fewer than two steps, or a threshold outside (0, 1).
    """
    if num_steps < 2:
        raise UserError(f"steps = {num_steps}: the linear_quadratic schedule needs at least 2, use schedule = 'linear'")
    if not 0 < threshold < 1:
        raise UserError(f"threshold = {threshold} of the linear_quadratic schedule must lie between 0 and 1")
    num_linear = num_steps // 2
    num_quadratic = num_steps - num_linear
    slope = threshold / num_linear
    i = torch.arange(num_steps + 1, dtype=torch.float64)
    j = (i - num_linear).clamp(min=0)
    curvature = (1 - threshold - slope * num_quadratic) / num_quadratic**2
    progress = slope * i + curvature * j**2
    return (1 - progress).clamp(0, 1).float()


def euler_step(
    z_t: Float[Tensor, " batch *rest"], v: Float[Tensor, " batch *rest"], t: float, t_next: float
) -> Float[Tensor, " batch *rest"]:
    """Follow the tangent at t: z_t + (t_next - t) v."""
    return z_t + (t_next - t) * v


def integrate(
    field: Callable[[Tensor, float], Tensor],
    z1: Float[Tensor, " batch *rest"],
    schedule: Float[Tensor, " steps_plus_1"],
    on_step: Callable[[int, Tensor, Tensor, float], None] | None = None,
) -> Float[Tensor, " batch *rest"]:
    """Euler integration of dz/dt = field(z, t) along a falling schedule.

    Args:
        field: velocity at (z_t, t).
        z1: start, at t = schedule[0].
        schedule: times, falling; the result is at schedule[-1].
        on_step: called before each update with (step, z_t, v, t).
    """
    z = z1
    times = schedule.tolist()
    for step, (t, t_next) in enumerate(itertools.pairwise(times)):
        v = field(z, t)
        if on_step is not None:
            on_step(step, z, v, t)
        z = euler_step(z, v, t, t_next)
    return z
