"""Muon: momentum whose every matrix is made orthogonal before it is a step (Jordan et al. 2024), over sharded weights.

A step of a matrix is U V^T of its momentum U S V^T, so that all directions are learned alike; scaled by
0.2 sqrt(max(rows, columns)) it is as large as a step of AdamW at the same rate (Liu et al. 2025, Moonlight).

An orthogonal matrix needs the whole of its momentum, and a rank holds some of its rows. So matrices are dealt out: each
rank receives some of them whole, makes them orthogonal and hands every other rank its rows. The work is shared, and two
exchanges serve a whole bucket of matrices.

Dimension key
    matrix  matrices of one shape       rows, cols  of a weight as `nn.Linear` has it
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

COEFFICIENTS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""a, b, c of the five iterations X <- a X + b (X X^T) X + c (X X^T)^2 X (Jiacheng 2025): singular values from 0.01 on
come to 0.7 to 1.2, which is as good as 1."""
BUCKET = 2**28
"""Numbers that are dealt out at a time, over all ranks: 1 GiB of them."""
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
        self._buckets = [
            [(bucket, _deal(bucket)) for bucket in _buckets(group["params"])] for group in self.param_groups
        ]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix; never waits for the device."""
        for group, buckets in zip(self.param_groups, self._buckets, strict=True):
            for parameters, dealt in buckets:
                self._update(parameters, dealt, group)

    def _update(self, parameters: list[Tensor], dealt: "_Dealt | None", group: dict[str, Any]) -> None:
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
        steps = _by_shape(steps) if dealt is None else dealt.orthogonal(steps)
        rate = group["lr"] * keep
        for parameter, step in zip(parameters, steps, strict=True):
            scale = LIKE_ADAMW * math.sqrt(max(parameter.shape))
            _local(parameter).mul_(1 - rate * group["weight_decay"]).sub_(step * (rate * scale))


def _buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Parameters in order, as many at a time as hold `BUCKET` numbers on all ranks together."""
    bucket: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket


def _deal(parameters: list[Tensor]) -> "_Dealt | None":
    """Who makes which matrix orthogonal; None where they are whole."""
    sharded = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    return _Dealt(sharded) if sharded else None


def _by_shape(matrices: list[Tensor]) -> list[Tensor]:
    """Whole matrices made orthogonal, those of one shape together; in the order given."""
    numbers: dict[torch.Size, list[int]] = {}
    for number, matrix in enumerate(matrices):
        numbers.setdefault(matrix.shape, []).append(number)
    found: dict[int, Tensor] = {}
    for same in numbers.values():
        found |= zip(same, orthogonal(torch.stack([matrices[number] for number in same])), strict=True)
    return [found[number] for number in range(len(matrices))]


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
    """Matrices sharded by rows, dealt out to the ranks so that each has about as much to do."""

    def __init__(self, matrices: list[DTensor]) -> None:
        mesh, placements = matrices[0].device_mesh, matrices[0].placements
        if placements not in ((Shard(0),), (Replicate(), Shard(0))):
            raise ValueError(f"Muon takes weights sharded by rows, of which there may be copies, not {placements}")
        self.group = mesh.get_group(mesh.ndim - 1)  # each copy does the same
        self.rank, ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
        self.cols = [matrix.shape[1] for matrix in matrices]
        self.rows = [_rows(matrix.shape[0], ranks) for matrix in matrices]
        """Rows of each matrix on each rank."""
        self.owned: list[list[int]] = [[] for _ in range(ranks)]
        """Matrices that each rank makes orthogonal."""
        work = [0] * ranks
        for number in sorted(range(len(matrices)), key=lambda number: -_work(matrices[number].shape)):
            owner = work.index(min(work))
            work[owner] += _work(matrices[number].shape)
            self.owned[owner].append(number)

    def orthogonal(self, shards: list[Tensor]) -> list[Tensor]:
        """This rank's rows of the orthogonal matrices, of its rows of the matrices."""
        mine = self.owned[self.rank]
        there = [[(number, rows[self.rank]) for number, rows in self._of(owned)] for owned in self.owned]
        here = [[(number, rows[rank]) for number, rows in self._of(mine)] for rank in range(len(self.owned))]
        parts = self._exchange([shards[number] for owned in self.owned for number in owned], there, here)
        whole = _by_shape([torch.cat([part[number] for part in parts]) for number in mine])
        cut = [matrix.split(self.rows[number]) for number, matrix in zip(mine, whole, strict=True)]
        parts = self._exchange([rows[rank] for rank in range(len(self.owned)) for rows in cut], here, there)
        found = {number: rows for part in parts for number, rows in part.items()}
        return [found[number] for number in range(len(shards))]

    def _of(self, numbers: list[int]) -> list[tuple[int, list[int]]]:
        return [(number, self.rows[number]) for number in numbers]

    def _exchange(
        self, rows: list[Tensor], sent: list[list[tuple[int, int]]], received: list[list[tuple[int, int]]]
    ) -> list[dict[int, Tensor]]:
        """Rows of matrices, those for each rank in turn; `sent` and `received` say of which, and how many."""
        flat = torch.cat([part.reshape(-1) for part in rows])
        sizes = [[count * self.cols[number] for number, count in parts] for parts in received]
        out = flat.new_empty(sum(map(sum, sizes)))
        lengths = [sum(count * self.cols[number] for number, count in parts) for parts in sent]
        dist.all_to_all_single(out, flat, [sum(part) for part in sizes], lengths, group=self.group)
        pieces = iter(out.split([size for part in sizes for size in part]))
        return [{number: next(pieces).view(count, self.cols[number]) for number, count in parts} for parts in received]


def _rows(num: int, ranks: int) -> list[int]:
    """Rows on each rank as torch.chunk cuts them, and DTensor with it."""
    share = -(-num // ranks)
    return [max(0, min(num, share * (rank + 1)) - share * rank) for rank in range(ranks)]


def _work(shape: torch.Size) -> int:
    """About as many products as an orthogonal matrix takes."""
    return min(shape) ** 2 * (2 * max(shape) + min(shape))


def _local(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
