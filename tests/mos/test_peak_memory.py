"""What is alive at one time is counted, and nothing is computed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mos.peak_memory import peak_bytes


@pytest.mark.parametrize(
    ("run", "floats"),
    [
        (lambda x: x * 2, 2),  # input and result
        (lambda x: (x * 2 + 1).relu(), 3),  # each before the next is let go
        (lambda x: x.mul_(2).add_(1), 1),
        (lambda x: x.view(2, 512)[:1].clone(), 1.5),
        (nn.Linear(1024, 2048), 3),  # the weights do not count
    ],
)
def test_the_most_that_is_alive_at_one_time_is_counted(run: Callable[[Tensor], Tensor], floats: float) -> None:
    assert peak_bytes(lambda: run(torch.empty(1, 1024))) == 4 * 1024 * floats


def test_more_than_any_machine_has_is_counted_in_no_time() -> None:
    assert peak_bytes(lambda: torch.empty(2**40) + torch.empty(2**40)) == 3 * 4 * 2**40


def test_what_a_backward_pass_needs_is_kept() -> None:
    """Of three products the inputs and the result; without gradients two of them at a time, beside what came in."""
    layers = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(3)))
    for weight in layers.parameters():
        weight.grad = torch.zeros_like(weight)

    def step() -> None:
        layers(torch.ones(1000, 64)).sum().backward()

    size, weight_size = 4 * 64 * 1000, 4 * 64 * 64
    with torch.no_grad():
        assert peak_bytes(lambda: layers(torch.ones(1000, 64))) == 3 * size
    assert 4 * size <= peak_bytes(step) <= 4 * size + 2 * weight_size
