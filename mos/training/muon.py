"""Muon: momentum whose every matrix is made orthogonal before it is a step (Jordan et al. 2024), over sharded weights.

A step of a matrix is U V^T of its momentum U S V^T, so that all directions are learned alike; scaled by
0.2 sqrt(max(rows, columns)) it is as large as a step of AdamW at the same rate (Liu et al. 2025, Moonlight).

An orthogonal matrix needs the whole of its momentum, and a rank holds some of its rows. Matrices of one shape are dealt
out: each rank receives whole ones, makes them orthogonal and hands every other rank its rows, so that the work is
shared and no rank holds more than its part of one shape.

Dimension key
    matrix  matrices of one shape       rows, cols  of a weight as `nn.Linear` has it
"""

import math
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

COEFFICIENTS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""a, b, c of the five iterations X <- a X + b (X X^T) X + c (X X^T)^2 X (Jiacheng 2025): singular values from 0.01 on
come to 0.7 to 1.2, which is as good as 1."""
LIKE_ADAMW = 0.2
"""Root mean square of a step at a rate of 1; AdamW's are 0.2 to 0.4."""


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices, plain or sharded by rows over all ranks. Its steps are collective."""

    found_inf: Tensor | None = None
    """As of torch's fused optimizers: 1 where the next step is to leave weights and momentum as they are."""

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float, weight_decay: float) -> None:
        """Take matrices to optimise.

        Args:
            params: fp32 weights of two dimensions.
            lr: learning rate, of the scale of AdamW's.
            momentum: decay of the mean gradient, in [0, 1); steps look ahead as Nesterov's do.
            weight_decay: decoupled, times the learning rate.
        """
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix; never waits for the device."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for number, (shape, parameters) in enumerate(shapes.items()):
                self._update(parameters, shape, group, first_owner=number)

    def _update(self, parameters: list[Tensor], shape: torch.Size, group: dict[str, Any], first_owner: int) -> None:
        weights = [_local(parameter) for parameter in parameters]
        keep = 1.0 if self.found_inf is None else 1.0 - self.found_inf.reshape(())
        steps = []
        for parameter in parameters:
            grad = _local(parameter.grad)
            grad = torch.where(grad.isfinite(), grad, 0.0)
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            mean = _local(state["momentum"])
            mean.add_((grad - mean) * keep, alpha=1 - group["momentum"])
            steps.append(torch.lerp(grad, mean, group["momentum"]))
        if isinstance(parameters[0], DTensor):
            steps = _Dealt(parameters[0], len(parameters), first_owner).orthogonal(steps)
        else:
            steps = list(orthogonal(torch.stack(steps)))
        rate = group["lr"] * keep
        scale = LIKE_ADAMW * math.sqrt(max(shape))
        for weight, step in zip(weights, steps, strict=True):
            weight.mul_(1 - rate * group["weight_decay"]).sub_(step * (rate * scale))


def orthogonal(matrices: Float[Tensor, "matrix rows cols"]) -> Float[Tensor, "matrix rows cols"]:
    """About U V^T of each matrix U S V^T: five Newton-Schulz iterations, in bfloat16 on a GPU and float32 on a CPU."""
    dtype = torch.bfloat16 if matrices.is_cuda else torch.float32
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in COEFFICIENTS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class _Dealt:
    """So many matrices like one, sharded by rows, dealt out to the ranks in turn."""

    def __init__(self, like: DTensor, num: int, first_owner: int) -> None:
        mesh, placements, shape = like.device_mesh, like.placements, like.shape
        if mesh.ndim != 1 or placements != (Shard(0),):
            raise ValueError(f"Muon takes weights sharded by rows over one mesh dimension, not {placements} on {mesh}")
        self.group = mesh.get_group()
        self.rank, ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
        self.cols = shape[1]
        share = -(-shape[0] // ranks)  # as torch.chunk cuts, and DTensor with it
        bounds = [min(shape[0], share * rank) for rank in range(ranks + 1)]
        self.rows = [end - start for start, end in pairwise(bounds)]
        """Rows of a matrix on each rank."""
        owners = [(number + first_owner) % ranks for number in range(num)]
        self.order = sorted(range(num), key=lambda number: owners[number])
        self.owned = [owners.count(rank) for rank in range(ranks)]
        """Matrices that each rank makes orthogonal."""

    def orthogonal(self, shards: list[Tensor]) -> list[Tensor]:
        """This rank's rows of the orthogonal matrices, of its rows of the matrices."""
        mine, own = self.rows[self.rank], self.owned[self.rank]
        sent = [count * mine * self.cols for count in self.owned]
        received = [own * rows * self.cols for rows in self.rows]
        parts = self._exchange(torch.cat([shards[number].reshape(-1) for number in self.order]), sent, received)
        whole = torch.cat([part.view(own, rows, self.cols) for part, rows in zip(parts, self.rows, strict=True)], dim=1)
        if own:
            whole = orthogonal(whole)
        back = torch.cat([part.reshape(-1) for part in whole.split(self.rows, dim=1)])
        parts = self._exchange(back, received, sent)
        rows = torch.cat([part.view(count, mine, self.cols) for part, count in zip(parts, self.owned, strict=True)])
        return [rows[place] for place in torch.tensor(self.order).argsort().tolist()]

    def _exchange(self, flat: Tensor, sent: list[int], received: list[int]) -> list[Tensor]:
        out = flat.new_empty(sum(received))
        dist.all_to_all_single(out, flat, received, sent, group=self.group)
        return [out[start:end] for start, end in pairwise(accumulate(received, initial=0))]


def _local(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
