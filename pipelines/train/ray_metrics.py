"""Metrics of a training gang as Ray's own, which Prometheus scrapes on every node and Grafana shows.

`cluster/grafana-training.json` is a dashboard of them. Ray puts `ray_` before each name. Rank 0 of a gang that Ray runs
reports; elsewhere nobody does.
"""

from collections.abc import Mapping

import ray
from ray.util.metrics import Counter, Gauge

from mos.training.goodput import Span
from mos.training.metrics import StepMetrics

GAUGES: Mapping[str, str] = {
    "step": "Updates done.",
    "loss": "Mean loss since the line before.",
    "grad_norm": "Global norm of the latest gradient, before clipping.",
    "lr": "Learning rate.",
    "samples_per_s": "Samples a second, over all ranks.",
    "tokens_per_s": "Tokens of pictures and contexts a second, over all ranks.",
    "tflops": "Model TFLOP/s of each rank.",
    "mfu": "Model FLOPs utilisation, in [0, 1].",
    "data_wait": "Share of the time that rank 0 waited for batches, in [0, 1].",
    "nonfinite_steps": "Updates skipped for a non-finite gradient.",
    "left_out": "Samples left out since the line before, because they are not finite.",
}
"""What each gauge says, by the field of `StepMetrics`; its name is `mos_train_<field>`."""
SECONDS, WORKERS = "mos_train_seconds", "mos_train_workers"
CAUSES = ("training", "starting", "data", "checkpoints", "looks")
"""Tag `spent_on` of the counter of seconds; the rate of `training` is the goodput, updates done again apart."""
TAGS = ("run", "stage")


class RayMetrics:
    """The metrics of one stage of one run."""

    def __init__(self, run: str, stage: str) -> None:
        tags = {"run": run, "stage": stage}
        self._gauges = {name: Gauge(f"mos_train_{name}", text, TAGS) for name, text in GAUGES.items()}
        self._workers = Gauge(WORKERS, "Workers of the gang.", TAGS)
        self._seconds = Counter(SECONDS, "Wall time of the gang, by what it was spent on.", (*TAGS, "spent_on"))
        for metric in (*self._gauges.values(), self._workers, self._seconds):
            metric.set_default_tags(tags)

    def see(self, metrics: StepMetrics) -> None:
        """Report one line of metrics."""
        for name, gauge in self._gauges.items():
            value = getattr(metrics, name)
            if value is not None:
                gauge.set(value)

    def spent(self, span: Span) -> None:
        """Report what the time since the last line was spent on."""
        self._workers.set(span.workers)
        waited = {"data": span.data, "checkpoints": span.checkpoints, "looks": span.looks}
        rest = "training" if span.updates or span.ended else "starting"
        for cause, seconds in {**waited, rest: span.seconds - sum(waited.values())}.items():
            if seconds > 0:
                self._seconds.inc(seconds, {"spent_on": cause})


def ray_metrics(run: str, stage: str) -> RayMetrics | None:
    """The metrics of a stage, in a process that Ray runs."""
    return RayMetrics(run, stage) if ray.is_initialized() else None
