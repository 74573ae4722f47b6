"""Spikes of the loss: found before a checkpoint holds what they did, undone by going back, their batches left out.

A spike is an update whose loss lies above the median of those before it by some times as much as the highest of them
does: a rule that holds for losses of any scale and for stages whose batches are of several kinds. Where one is found,
training goes back to its last checkpoint and does not train on the batches of the spike and on the one before, whose
update may have caused it: the remedy of PaLM (Chowdhery et al. 2022, §5.1). Steps keep their numbers and batches, so
that all others are trained on as they would have been.
"""

import json
import math
import statistics
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mos.config import StrictConfig
from mos.errors import UserError
from mos.files import written_whole
from mos.training.agreement import from_rank_0

FILE = "skipped.json"
SMALLEST_SPREAD = 1e-3
"""Of losses that are all alike, relative to their median."""


class SpikeConfig(StrictConfig):
    """What counts as a spike of the loss, and how many are borne."""

    times: float = Field(3.0, gt=1)
    """A loss is a spike that exceeds the median by so many times as much as the highest of the window does."""
    window: int = Field(100, ge=10)
    """Updates that a loss is compared with; before so many are done none is judged."""
    rewinds: int = Field(3, ge=0)
    """Times that a stage goes back to a checkpoint for a spike, before it stops with an error."""


class LossSpikeError(Exception):
    """A spike, found on all ranks alike."""

    def __init__(self, batches: range, loss: float, usual: float) -> None:
        """Batches to leave out, the highest loss among them, and the median before them."""
        super().__init__(f"loss {loss:.4f} where {usual:.4f} is usual, at steps {batches.start} to {batches.stop - 1}")
        self.batches, self.loss, self.usual = batches, loss, usual


class SpikeWatch:
    """Losses of single updates, kept on the device until a line of metrics or a checkpoint is due."""

    def __init__(self, config: SpikeConfig, losses: Iterable[float] = ()) -> None:
        """`losses` are those before the first step, as a checkpoint holds them."""
        self._config = config
        self._window = deque(losses, maxlen=config.window)
        self._pending: list[tuple[int, Tensor]] = []

    @property
    def recent(self) -> tuple[float, ...]:
        """Losses that the next ones are compared with, for a checkpoint."""
        return tuple(self._window)

    def add(self, batch: int, loss: Float[Tensor, ""]) -> None:
        """Take the loss of this rank's share of a batch, so that the mean over the ranks is the batch's."""
        self._pending.append((batch, loss))

    def look(self) -> None:
        """Judge what was added since the last look. Collective; waits for the device.

        Raises:
            LossSpikeError: there is a spike; what came after the first one in this span is not judged, but left out up
                to the last loss that is as high.
        """
        if not self._pending:
            return
        batches, losses = [number for number, _ in self._pending], torch.stack([loss for _, loss in self._pending])
        self._pending = []
        dist.all_reduce(losses)
        found = (losses / dist.get_world_size()).tolist()
        for place, loss in enumerate(found):
            limit = spike_limit(self._window, self._config)
            if not math.isfinite(loss):  # the update was skipped, and is counted elsewhere
                continue
            if loss > limit:
                last = max(later for later in range(place, len(found)) if not found[later] <= limit)
                culprits = range(max(batches[place] - 1, 0), batches[last] + 1)
                raise LossSpikeError(culprits, max(found[place : last + 1]), statistics.median(self._window))
            self._window.append(loss)


def spike_limit(window: Collection[float], config: SpikeConfig) -> float:
    """Highest loss that is none; infinite until the window is full."""
    if len(window) < config.window:
        return float("inf")
    median = statistics.median(window)
    return median + config.times * max(max(window) - median, SMALLEST_SPREAD * abs(median))


@dataclass(frozen=True)
class Skipped:
    """Batches that a stage leaves out for one spike."""

    first: int
    """Step whose batch it is: updates done before it."""
    last: int
    loss: float
    usual: float
    """The median loss before it."""
    samples: list[str]
    """Ids of what the batches hold."""


class SkippedBatches:
    """Batches that are left out, in a file of the stage's folder: whoever goes on with it leaves them out, too."""

    def __init__(self, folder: Path, most: int) -> None:
        """Collective; `most` spikes are borne."""
        self._path, self._most = folder / FILE, most
        self.records: list[Skipped] = from_rank_0(lambda: read_skipped(folder))

    def __contains__(self, batch: object) -> bool:
        return any(isinstance(batch, int) and record.first <= batch <= record.last for record in self.records)

    def add(self, spike: LossSpikeError, samples_of: Callable[[Sequence[int]], list[str]]) -> None:
        """Leave out the batches of a spike from now on. Collective.

        Args:
            spike: as it was found.
            samples_of: names the samples of batches; asked on rank 0.

        Raises:
            UserError: there were as many as are borne, or no room for the record.
        """
        if len(self.records) >= self._most:
            raise UserError(
                f"{spike}; {len(self.records)} spikes before it were undone, as many as spikes.rewinds = {self._most}: "
                "lower optimizer.lr, look at the samples in skipped.json, or raise spikes.rewinds"
            )
        first, last = spike.batches.start, spike.batches.stop - 1
        record = from_rank_0(lambda: Skipped(first, last, spike.loss, spike.usual, samples_of(spike.batches)))
        self.records.append(record)
        failure = from_rank_0(self._write)
        if failure is not None:
            raise UserError(f"{spike}; {self._path} cannot be written ({failure}): make room and start again")

    def _write(self) -> str | None:
        """The file; why it could not be written, or None."""
        try:
            with written_whole(self._path) as partial:
                partial.write_text(json.dumps([asdict(record) for record in self.records], indent=2), encoding="utf-8")
        except OSError as error:
            return str(error)
        return None


def read_skipped(folder: Path) -> list[Skipped]:
    """What a stage in a folder leaves out."""
    path = folder / FILE
    if not path.is_file():
        return []
    return [Skipped(**record) for record in json.loads(path.read_text(encoding="utf-8"))]
