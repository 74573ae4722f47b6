"""Where a stage stands, read from its folder: what is done, how fast, what is left, what it cost."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mos.training.goodput import Goodput, Span, goodput, read_spans
from mos.training.metrics import latest_metrics
from mos.training.whereabouts import BEAT_S, SILENT_BEATS, read_places
from pipelines.run.config import RunConfig
from pipelines.train.job import steps_done
from pipelines.train.lock import is_locked

LATEST_SPANS = 10
"""Lines of the newest attempt that a stage's speed is told from."""


@dataclass(frozen=True)
class Standing:
    """One stage, as its files tell."""

    updates: int
    """Done; those after the newest checkpoint would be done again."""
    saved: int
    """Updates of the newest checkpoint."""
    trains: bool
    """Whether a driver holds the stage's folder."""
    loss: float | None
    updates_per_s: float | None
    """Of the newest attempt, of late; None before it has done any."""
    spent: Goodput | None
    silent: tuple[str, ...]
    """Ranks of a gang that trains which were not heard of for some beats."""

    def left_s(self, asked: int) -> float | None:
        """Seconds until so many updates are done, at this speed."""
        return None if self.updates_per_s is None else max(0, asked - self.updates) / self.updates_per_s


def standing(folder: Path, now: float | None = None) -> Standing:
    """Where the stage of a folder stands.

    Args:
        folder: of the stage, which need not be there.
        now: seconds since 1970.
    """
    spans, latest, trains = read_spans(folder), latest_metrics(folder), is_locked(folder)
    silent_since = (time.time() if now is None else now) - SILENT_BEATS * BEAT_S
    saved = steps_done(folder)
    return Standing(
        updates=max(saved, latest.step if latest is not None else 0),
        saved=saved,
        trains=trains,
        loss=None if latest is None else latest.loss,
        updates_per_s=latest_speed(spans),
        spent=goodput(spans),
        silent=tuple(place.name for place in read_places(folder) if trains and place.heard < silent_since),
    )


def latest_speed(spans: Sequence[Span]) -> float | None:
    """Updates a second of the newest attempt, in its latest lines."""
    newest = [span for span in spans if span.updates and span.attempt == spans[-1].attempt][-LATEST_SPANS:]
    seconds = sum(span.seconds for span in newest)
    return sum(span.updates for span in newest) / seconds if seconds else None


def cost_text(config: RunConfig, worker_seconds: float) -> str:
    """What a gang's workers cost for so long, at the price of the plan's machine."""
    workers, price = config.cluster.train, config.plan.machine_for(config.cluster.train.gpus).train_hour
    hours = worker_seconds / 3600 * (1 if workers.gpus else workers.cpus)
    unit = "GPU hours" if workers.gpus else "core hours"
    return f"{hours:.2f} {unit} at {price:g} $ are {hours * price:.2f} $"
