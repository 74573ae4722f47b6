"""Whether trainer and producers of a streaming stage kept each other busy: measured, shown, recorded."""

from dataclasses import dataclass
from typing import Any

from cluster.actor_pool import ActorPool
from mos.feeding.config import StreamStates
from mos.feeding.lead import Lead
from mos.training.metrics import StepMetrics
from pipelines.train.job import StageJob

WAITED_NOTABLY = 0.05
"""Share of the trainer's time above which a remedy is named."""


@dataclass
class ProducerBalance:
    """Times and counts of one stage's producers."""

    encoded: int = 0
    """Contexts committed."""
    dropped: int = 0
    """Contexts dropped after they were consumed."""
    idle_share: float = 0.0
    """Share of the producers' time without work while windows were left to encode, in [0, 1]."""
    most_actors: int = 0
    lead_bytes: float = 0.0
    """The largest lead."""
    died: int = 0
    """Producers that were lost and replaced."""

    def see(self, pool: ActorPool, lead: Lead) -> None:
        """Look at a pool and its lead; when the last window is planned, idleness says nothing any more."""
        self.most_actors = max(self.most_actors, len(pool))
        self.lead_bytes = lead.most_bytes
        self.died = pool.num_died
        if not lead.all_planned:
            self.idle_share = pool.time.idle_share


def stall_share(metrics: list[StepMetrics], batch_size: int, first_step: int) -> float:
    """Share of the time from `first_step` on that the trainer waited for batches, in [0, 1]."""
    waited_s = elapsed_s = 0.0
    before = 0
    for line in metrics:
        if before >= first_step:
            seconds = (line.step - before) * batch_size / line.samples_per_s
            waited_s += line.data_wait * seconds
            elapsed_s += seconds
        before = line.step
    return waited_s / elapsed_s if elapsed_s else 0.0


def remedy(stall: float, idle: float) -> str:
    """Advice where the trainer waited for that share of its time and the producers were idle for theirs."""
    if idle > stall:
        return "the lead is too small, producers had to pause although the trainer waited: raise states.lead_mb"
    return 'the producers are too slow: raise states.producers.max, or use states = { type = "cache" }'


def describe_balance(
    job: StageJob, settings: StreamStates, metrics: list[StepMetrics], produced: ProducerBalance
) -> dict[str, Any]:
    """Print the balance of a finished stage and return it for its record."""
    stall = stall_share(metrics, job.stage.batch_size, settings.window_steps)
    print(
        f"{job.name}: after the first window the trainer waited {stall:.1%} of its time; producers were idle "
        f"{produced.idle_share:.0%}, at most {produced.most_actors} of them; lead at most "
        f"{produced.lead_bytes / 1e6:.3g} of {settings.lead_mb:g} MB; {produced.encoded} contexts encoded, "
        f"{produced.dropped} dropped",
        flush=True,
    )
    if stall > WAITED_NOTABLY:
        print(f"{job.name}: {remedy(stall, produced.idle_share)}", flush=True)
    return {
        "trainer_stall": stall,
        "producer_idle": produced.idle_share,
        "most_producers": produced.most_actors,
        "producers_lost": produced.died,
        "lead_bytes": produced.lead_bytes,
        "contexts_encoded": produced.encoded,
        "contexts_dropped": produced.dropped,
    }
