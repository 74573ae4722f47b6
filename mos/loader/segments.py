"""Segments of a stage: which samples its steps are of, where newer ones are taken when an epoch begins.

Sets of samples are numbered: 0 is what the stage began with, each later one holds newer samples. Whoever comes first to
the first step of an epoch, a rank or a producer of its states, decides for all which set the epoch is of, and that is
never changed: a stage that goes back to a checkpoint, or goes on with other ranks, gets the same samples again. A
segment is the epochs of one set. The plan of its set begins at its first epoch as though the epochs before had been
planned with it, so nothing of it is left out.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from mos.files import written_first
from mos.loader.index import SampleIndex
from mos.loader.plan import BatchPlan


@dataclass(frozen=True)
class Segment:
    """Consecutive epochs of one set of samples."""

    samples: int
    """Number of the set."""
    epoch: int
    """The first one."""
    step: int
    """The first one, counted from the start of training."""


class Decisions:
    """What was decided for each epoch, one small file an epoch.

    Args:
        folder: of these files, which all ranks share.
        newest: number of the newest set; None: epochs stay with the set before them, as far as nothing else is decided.
    """

    def __init__(self, folder: Path, newest: Callable[[], int] | None) -> None:
        self._folder = folder
        self._newest = newest

    def made(self) -> list[Segment]:
        """Every epoch that was decided, as a segment of its own, in order."""
        return [_read(path.read_text("ascii")) for path in sorted(self._folder.glob("epoch-*"))]

    def make(self, as_before: Segment) -> Segment:
        """Decide, unless somebody has, which set an epoch is of that begins; `as_before` has the set of the last."""
        path = self._folder / f"epoch-{as_before.epoch:09d}"
        if self._newest is not None:
            return _read(written_first(path, json.dumps(asdict(replace(as_before, samples=self._newest())))))
        return _read(path.read_text("ascii")) if path.is_file() else as_before


class Segments:
    """All segments of one stage, as far as they are known.

    Args:
        load: index and plan of a set of samples.
        decisions: None: the stage keeps the set it began with.
    """

    def __init__(
        self, load: Callable[[int], tuple[SampleIndex, BatchPlan]], decisions: Decisions | None = None
    ) -> None:
        self._decisions = decisions
        self._known = [Segment(0, 0, 0)]
        self._decided: set[int] = set()
        for segment in [] if decisions is None else decisions.made():
            self._note(segment)

        def begun(segment: Segment) -> tuple[SampleIndex, BatchPlan]:
            index, plan = load(segment.samples)
            return index, plan.beginning(segment.epoch, segment.step)

        self.load = lru_cache(maxsize=1)(begun)
        """Index of a segment, and its plan, which knows at which step of the stage each epoch begins."""

    def at(self, step: int) -> Segment:
        """The segment of a step, decided now where the step is the first one of an epoch that nobody has come to."""
        while True:
            segment = next(known for known in reversed(self._known) if known.step <= step)
            if self._decisions is None or segment is not self._known[-1]:
                return segment
            _, plan = self.load(segment)
            epoch, position = plan.locate(step)
            if epoch in self._decided:
                return segment
            as_before = Segment(segment.samples, epoch, step)
            self._note(self._decisions.make(as_before) if position == 0 else as_before)

    def _note(self, decided: Segment) -> None:
        self._decided.add(decided.epoch)
        if decided.samples != self._known[-1].samples:
            self._known.append(decided)


def _read(text: str) -> Segment:
    return Segment(**json.loads(text))
