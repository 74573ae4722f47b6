"""Ending a stage in order: a driver asks, all ranks leave after the same step, nothing that was done is lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist


class StopRequest:
    """Request to stop, from a driver to its gang, through two files in the stage's folder.

    training    there while the gang is in its training loop, which alone has something to lose
    stop        there when the gang is to leave it
    """

    def __init__(self, folder: Path) -> None:
        self._training, self._stop = folder / "training", folder / "stop"

    def clear(self) -> None:
        """Forget what an earlier run left behind."""
        self._training.unlink(missing_ok=True)
        self._stop.unlink(missing_ok=True)

    def ask(self) -> None:
        """Have the gang leave its loop after a step."""
        self._stop.touch()

    def is_asked(self) -> bool:
        """True if the gang is to leave."""
        return self._stop.exists()

    def enter(self) -> None:
        """The gang begins to train."""
        self._training.touch()

    def leave(self) -> None:
        """The gang trains no more."""
        self._training.unlink(missing_ok=True)

    def is_training(self) -> bool:
        """True if the gang is in its loop."""
        return self._training.exists()


class StopVote:
    """Brings all ranks to leave after the same step, though one sees the request before another.

    Every step the ranks exchange whether they have seen it, in the background of the next step: no step waits for the
    exchange, and the answer is a step old.
    """

    def __init__(self, request: StopRequest) -> None:
        """Collective: the votes have a process group of their own, over gloo."""
        self._request = request
        self._group = dist.new_group(backend="gloo") if dist.get_world_size() > 1 else None
        self._vote: tuple[torch.Tensor, dist.Work] | None = None

    def is_settled(self) -> bool:
        """True if training ends after this step; every rank asks once a step, and all get the same answer."""
        if self._group is None:
            return self._request.is_asked()
        settled = False
        if self._vote is not None:
            seen, exchange = self._vote
            exchange.wait()
            settled = bool(seen)
        seen = torch.tensor(int(self._request.is_asked()))
        self._vote = seen, dist.all_reduce(seen, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return settled

    def close(self) -> None:
        """Wait for the last exchange. Collective."""
        if self._vote is not None:
            self._vote[1].wait()
            self._vote = None


@contextmanager
def stoppable(folder: Path) -> Iterator[StopVote]:
    """The ranks' vote on the driver's request to stop; the driver knows of the block, while rank 0 is in it."""
    request = StopRequest(folder)
    vote = StopVote(request)
    if dist.get_rank() == 0:
        request.enter()
    try:
        yield vote
    finally:
        if dist.get_rank() == 0:
            request.leave()
