"""Orthogonal steps of matrices: against their definition, and of shards against whole matrices."""

import math

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from mos.training.muon import LIKE_ADAMW, Muon, orthogonal
from tests.mos.training.gloo import run_ranks

SHAPES = [(7, 5), (7, 5), (7, 5), (3, 8), (1, 4), (6, 6), (6, 6)]


def draws(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize(("rows", "cols"), [(5, 5), (24, 7), (7, 24), (1, 9), (96, 288)])
def test_singular_values_come_to_about_one_and_directions_stay(rows: int, cols: int):
    matrices = torch.randn(3, rows, cols, generator=torch.Generator().manual_seed(0))
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    got = u.mT @ orthogonal(matrices) @ vh.mT
    values = got.diagonal(dim1=1, dim2=2)
    assert values[s / s.norm(dim=1, keepdim=True) > 0.02].sub(1).abs().max() < 0.35
    torch.testing.assert_close(got, torch.diag_embed(values), atol=1e-4, rtol=0)


def test_a_matrix_of_zeros_takes_no_step():
    assert not orthogonal(torch.zeros(2, 4, 3)).any()


def literal(weights: list[Tensor], gradients: list[list[Tensor]]) -> list[Tensor]:
    """The update of Jordan et al. with a step as large as AdamW's, one matrix after the other."""
    weights = [weight.clone() for weight in weights]
    means = [torch.zeros_like(weight) for weight in weights]
    for grads in gradients:
        for weight, mean, grad in zip(weights, means, grads, strict=True):
            mean.copy_(0.9 * mean + 0.1 * grad)
            step = orthogonal((0.1 * grad + 0.9 * mean)[None])[0] * LIKE_ADAMW * math.sqrt(max(weight.shape))
            weight.copy_(weight * (1 - 0.05 * 0.2) - 0.05 * step)
    return weights


def optimised(weights: list[Tensor], gradients: list[list[Tensor]]) -> list[Tensor]:
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    optimizer = Muon(parameters, lr=0.05, momentum=0.9, weight_decay=0.2)
    for grads in gradients:
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def test_steps_are_those_of_the_definition():
    weights, gradients = draws(0), [draws(1), draws(2), draws(3)]
    for got, wanted in zip(optimised(weights, gradients), literal(weights, gradients), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def check_shards_step_as_whole_matrices() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    cut = [distribute_tensor(weight, mesh, [Shard(0)]) for weight in draws(0)]
    gradients = [[distribute_tensor(grad, mesh, [Shard(0)]) for grad in draws(seed)] for seed in (1, 2)]
    wanted = optimised(draws(0), [draws(1), draws(2)])
    for got, whole in zip(optimised(cut, gradients), wanted, strict=True):
        torch.testing.assert_close(got.full_tensor(), whole, rtol=1e-5, atol=1e-6)
    replicated = [distribute_tensor(weight, mesh, [Replicate()]) for weight in draws(0)]
    with pytest.raises(ValueError, match="sharded by rows"):
        optimised(replicated, [replicated])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_shards_step_as_whole_matrices(ranks: int):
    """Three ranks hold rows of 7 as 3, 3 and 1, and none of the matrix of one row but the first."""
    run_ranks(check_shards_step_as_whole_matrices, ranks)
