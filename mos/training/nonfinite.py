"""Updates whose gradient was not finite: counted on the device, so that no step waits for the host to look."""

import torch
from jaxtyping import Float
from torch import Tensor

from mos.errors import UserError


class SkippedUpdates:
    """Count of a stage's skipped updates, and how many it bears."""

    def __init__(self, already: int, most: int, device: torch.device) -> None:
        """`already` were skipped before the steps that follow."""
        self._most = most
        self._count = torch.tensor(already, device=device)

    def add(self, grad_norm: Float[Tensor, ""]) -> None:
        """Count an update where its norm is not finite."""
        self._count += ~grad_norm.isfinite()

    def read(self, step: int) -> int:
        """The number so far; waits for the device.

        Raises:
            UserError: it is more than the stage bears.
        """
        count = int(self._count)
        if count > self._most:
            raise UserError(
                f"{count} updates had a non-finite gradient by step {step}, more than max_nonfinite_steps = "
                f"{self._most}: lower optimizer.lr, lengthen the warm-up or raise max_nonfinite_steps"
            )
        return count
