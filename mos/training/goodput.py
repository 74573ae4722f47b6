"""Where the wall time of a stage went: to updates that count, and to what else, over all its attempts.

A stage of weeks is interrupted, resumed, grown and moved. Each attempt of its gang appends to `time.jsonl` in the
stage's folder, and no line is ever taken back: what was trained twice is known by the step at which a later attempt
began.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mos.training.appended import AppendedFile, line_of, read_records

FILE = "time.jsonl"

Cause = Literal["data", "checkpoints", "looks"]
"""What a step may wait for: batches, checkpoints, previews and held-out losses."""


@dataclass(frozen=True)
class Span:
    """Time between two lines of one attempt; the first of an attempt has no updates and ends as training begins."""

    attempt: float
    """When the attempt's worker began, in seconds since 1970: what tells attempts apart."""
    at: float
    """Its end, in seconds since 1970."""
    step: int
    """Updates done at its end, since the stage began."""
    updates: int
    """Done in it."""
    seconds: float
    data: float
    """Seconds of them that batches were waited for; the next two likewise."""
    checkpoints: float
    looks: float
    workers: int = 1
    ended: bool = False
    """The attempt's last: it left in order, because the stage was at its end or was told to stop."""


class Clock:
    """Takes the time of one attempt; a full disk does not stop it."""

    def __init__(
        self,
        folder: Path | None,
        began: float,
        first_step: int,
        workers: int = 1,
        told: Callable[["Span"], None] | None = None,
    ) -> None:
        """Begin the first span of updates.

        Args:
            folder: of the stage; None on ranks that write nothing.
            began: when this attempt began, in seconds since 1970.
            first_step: updates that earlier attempts have done.
            workers: of this attempt's gang.
            told: given each span as it ends.
        """
        self._file = None if folder is None else AppendedFile(folder / FILE)
        self._attempt, self._step, self._workers, self._told = began, first_step, workers, told
        self._clear()
        self._write(Span(began, time.time(), first_step, 0, time.time() - began, 0.0, 0.0, 0.0, workers))

    @contextmanager
    def spent_on(self, cause: Cause) -> Iterator[None]:
        """Count the seconds of a block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._spent[cause] += time.perf_counter() - started

    def add(self, cause: Cause, seconds: float) -> None:
        """Count seconds that were taken elsewhere."""
        self._spent[cause] += seconds

    def line(self, step: int) -> None:
        """End a span after so many updates, and begin the next."""
        self._write(self._span(step))
        self._step = step
        self._clear()

    def end(self, step: int) -> None:
        """End the attempt in order: what follows until the next one is nobody's loss."""
        self._write(replace(self._span(step), ended=True))

    def _span(self, step: int) -> Span:
        spent = self._spent
        return Span(
            attempt=self._attempt,
            at=time.time(),
            step=step,
            updates=step - self._step,
            seconds=time.perf_counter() - self._started,
            data=spent["data"],
            checkpoints=spent["checkpoints"],
            looks=spent["looks"],
            workers=self._workers,
        )

    def _clear(self) -> None:
        self._spent: dict[Cause, float] = {"data": 0.0, "checkpoints": 0.0, "looks": 0.0}
        self._started = time.perf_counter()

    def _write(self, span: Span) -> None:
        if self._file is not None:
            self._file.add(line_of(span))
        if self._told is not None:
            self._told(span)


@dataclass(frozen=True)
class Goodput:
    """Seconds of a stage by what they went to; together they are its wall time."""

    training: float
    """Updates that count."""
    start: float
    """From a worker's begin to its first update: imports, weights, tables."""
    data: float
    checkpoints: float
    looks: float
    redone: float
    """Updates that were done again, because an attempt ended after its last checkpoint."""
    down: float
    """Between the last line of an attempt that did not leave in order and the begin of the next."""
    attempts: int
    worker_seconds: float
    """Of all workers, but for the time between attempts: what is paid for."""

    @property
    def wall(self) -> float:
        """Seconds from the first attempt's begin to the last line, but for those in which nothing was to run."""
        lost = self.start + self.data + self.checkpoints + self.looks + self.redone + self.down
        return self.training + lost

    @property
    def share(self) -> float:
        """Goodput: updates that count, of the wall time; in [0, 1]."""
        return self.training / self.wall if self.wall else 0.0

    def text(self) -> str:
        """One line for people: the share, and what the rest was lost to, the largest first."""
        lost = {
            "starting": self.start,
            "data": self.data,
            "checkpoints": self.checkpoints,
            "previews and held-out losses": self.looks,
            "done again": self.redone,
            "down": self.down,
        }
        ordered = sorted(lost.items(), key=lambda item: -item[1])
        parts = [f"{name} {seconds:.0f} s" for name, seconds in ordered if seconds >= 0.5]
        attempts = f" in {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{self.share:.0%} of {self.wall:.0f} s{attempts} went to updates" + (
            f"; the rest: {', '.join(parts)}" if parts else ""
        )


def read_spans(folder: Path) -> list[Span]:
    """Lines of a stage in the order in which they were written; damaged ones are left out."""
    return read_records(folder / FILE, Span)


def goodput(spans: Sequence[Span]) -> Goodput | None:
    """The account of a stage; None where nothing is known."""
    if not spans:
        return None
    attempts: dict[float, list[Span]] = {}
    for span in spans:
        attempts.setdefault(span.attempt, []).append(span)
    ordered = [attempts[began] for began in sorted(attempts)]
    sums = dict.fromkeys(("training", "start", "data", "checkpoints", "looks", "redone", "down"), 0.0)
    resumed_at = float("inf")  # the earliest step at which any later attempt began
    next_began: float | None = None
    for attempt in reversed(ordered):
        if next_began is not None and not attempt[-1].ended:
            sums["down"] += max(0.0, next_began - attempt[-1].at)
        for span in attempt:
            if not span.updates and not span.ended:
                sums["start"] += span.seconds
                continue
            for cause in ("data", "checkpoints", "looks"):
                sums[cause] += getattr(span, cause)
            worked = span.seconds - span.data - span.checkpoints - span.looks
            again = min(max(span.step - resumed_at, 0.0) / span.updates, 1.0) if span.updates else 0.0
            sums["training"] += worked * (1 - again)
            sums["redone"] += worked * again
        resumed_at = min(resumed_at, attempt[0].step - attempt[0].updates)
        next_began = attempt[0].attempt
    worked_for = sum(span.seconds * span.workers for span in spans)
    return Goodput(**sums, attempts=len(ordered), worker_seconds=worked_for)
