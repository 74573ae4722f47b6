"""What a rank holds of a tensor that may be sharded."""

from torch import Tensor
from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor, sharing its memory; the whole of one that is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
