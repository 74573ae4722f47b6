"""What a rank holds of a tensor that may be sharded: shards are cut along the first dimension, as torch.chunk cuts."""

from math import prod

from torch import Tensor
from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor, sharing its memory; the whole of one that is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: Tensor) -> slice:
    """Rows of the whole tensor that this rank holds."""
    if not isinstance(tensor, DTensor):
        return slice(None)
    (dim,) = (number for number, placement in enumerate(tensor.placements) if placement.is_shard(0))
    rows = -(-tensor.shape[0] // tensor.device_mesh.size(dim))
    first = min(tensor.device_mesh.get_local_rank(dim) * rows, tensor.shape[0])
    return slice(first, first + len(tensor.to_local()))


def own_numbers(tensor: Tensor) -> slice:
    """Numbers of the whole tensor, laid flat, that this rank holds; a number without dimensions is one."""
    if not tensor.ndim:
        return slice(0, 1)
    first, last, _ = own_rows(tensor).indices(tensor.shape[0])
    width = prod(tensor.shape[1:])
    return slice(first * width, last * width)
