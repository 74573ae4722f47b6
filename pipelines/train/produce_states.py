"""The producers of a streaming stage: a thread of the stage's driver that keeps a pool of encoding actors ahead."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayError

from cluster.actor_pool import ActorPool
from cluster.resources import actor_options
from mos.errors import UserError
from mos.feeding.config import StreamStates
from mos.feeding.lead import Lead, LeadRule
from mos.feeding.progress import StreamProgress
from mos.feeding.queue import StateQueue
from mos.feeding.recompute import refuse_failures
from mos.loader.index import SampleIndex
from mos.states.quality import QualityReport, check_quality
from mos.tables.blobs import plain_schema
from mos.tables.encode_tasks import num_pieces
from mos.tables.lance import create_table
from operators.encode_states import EncodeStates
from pipelines.run.config import RunConfig
from pipelines.train.job import StageJob, newest_step, preview_rows
from pipelines.train.open_states import stage_demand
from pipelines.train.producer_stats import ProducerBalance
from pipelines.train.samples import StageSamples

TICK_S = 0.1
"""Longest wait for an actor's result before the trainer is looked at again."""
STARVED_S = 2.0
"""The pool grows by one each time the trainer has waited so long and every producer is busy."""
IDLE_S = 5.0
"""The pool shrinks by one once a producer has been idle so long, the lead being full."""
SAY_EVERY_S = 10.0
"""Seconds between lines about a trainer that waits."""
SAY_NO_WORKERS_S = 30.0
"""Seconds between lines about training workers that have not begun, perhaps for want of nodes."""
RETRY_AFTER_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses after errors of a disk or a store, before the producers give up."""


class Producer:
    """What an actor of the pool does: contexts in, all that `EncodeStates` says of them out, in one table."""

    def __init__(self, *arguments: Any) -> None:
        self._encode = EncodeStates(*arguments)

    def __call__(self, tasks: pa.Table) -> pa.Table:
        """Write the states of some contexts, at least one."""
        return pa.concat_tables(self._encode(tasks))


@contextmanager
def producing(job: StageJob, index: SampleIndex, config: RunConfig) -> Iterator[ProducerBalance | None]:
    """Produce the stage's states for the duration of the block, if it streams; Ray is connected.

    Yields:
        What the producers did, complete when the block is left; None for other sources.

    Raises:
        UserError: Ray has no room for producers beside the trainer; or the producers failed, and so did training.
    """
    if not isinstance(job.states, StreamStates):
        yield None
        return
    create_table(job.queue, plain_schema(job.tables.states.open().schema))
    bounds = pool_bounds(job.states, config)
    StreamProgress(job.folder / "stream").clear()
    arguments = (job.encode, job.tables.samples, job.queue, job.image_limits)
    with closing(ActorPool(Producer, arguments, actor_options(job.encode.actors), bounds)) as pool:
        producer = StateProducer(job, index, job.states, pool)
        producer.start()
        try:
            yield producer.balance
        except Exception as error:
            if producer.failure is not None:
                raise UserError(producer.failure) from error
            raise
        finally:
            producer.stop()
    if producer.failure is not None and newest_step(job) < job.stage.steps:
        raise UserError(producer.failure)


def pool_bounds(states: StreamStates, config: RunConfig) -> tuple[int, int]:
    """Fewest and most producers: as configured, but no more than there is room for beside the trainer.

    Actors or training workers with labels run on nodes of their own, which may not have started yet: nothing is
    counted then.

    Raises:
        UserError: there is no room for the fewest.
    """
    actors, train = config.encode.actors, config.cluster.train
    if actors.labels or train.labels:
        return states.producers.min, states.producers.max
    have = ray.cluster_resources()
    room = int((have.get("CPU", 0) - train.num * train.cpus) // actors.cpus)
    if actors.gpus:
        room = min(room, int((have.get("GPU", 0) - train.num * train.gpus) // actors.gpus))
    if room < states.producers.min:
        cpus = int(train.num * train.cpus) + states.producers.min * actors.cpus
        raise UserError(
            f"Ray has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs, too few for {train.num} training "
            f"workers and {states.producers.min} producers: lower cluster.train.num, give Ray more (cluster.num_cpus="
            f"{cpus} for a Ray of its own: cores are then shared), or set states.type to recompute"
        )
    return states.producers.min, max(states.producers.min, min(states.producers.max, room))


class StateProducer:
    """Encodes what the trainer will read, within the lead; commits it, and drops what was read."""

    def __init__(self, job: StageJob, index: SampleIndex, settings: StreamStates, pool: ActorPool) -> None:
        self.balance = ProducerBalance()
        self.failure: str | None = None
        """Why no more states will come."""
        self._name = job.name
        self._encode = job.encode
        self._pool = pool
        self._progress = StreamProgress(job.folder / "stream")
        self._first_step = min(newest_step(job), job.stage.steps - 1)
        self._samples = StageSamples(job)
        self._contexts = self._samples.contexts(self._samples.newest())
        self._demand = stage_demand(job, self._samples, settings)
        self._queue = StateQueue(job.queue, settings.drop_consumed)
        self._numbers: dict[str, int] = {}
        self._lead = self._make_lead(job, index, settings)
        self._num_failures = 0
        self._waiting_since: float | None = None
        self._grown_at = self._said_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="produce-states", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the actors are the caller's."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._try_turn()
        except (Exception, RayError) as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.failure = f"the producers of states failed: {reason}"
            print(f"{self._name}: {self.failure}", flush=True)
            self._progress.fail(self.failure)

    def _try_turn(self) -> None:
        """One turn; an error of a disk or a store, which may pass, is survived a few times until rows come again."""
        try:
            self._turn()
        except (OSError, UserError) as error:
            if not isinstance(error, OSError) and not isinstance(error.__cause__, OSError):
                raise
            if self._num_failures == len(RETRY_AFTER_S):
                raise
            delay = RETRY_AFTER_S[self._num_failures]
            self._num_failures += 1
            print(f"{self._name}: the producers try again in {delay:g} s: {error}", flush=True)
            self._stopped.wait(delay)

    def _turn(self) -> None:
        """One look at the trainer and at the actors."""
        self._queue.finish_interrupted()
        ranks = self._progress.ranks()
        step = min((rank.step for rank in ranks), default=self._first_step)
        self._forget(self._lead.follow(self._demand.window_of(step)))
        full = not self._hand_out()
        rows = [row for table in self._pool.collect(TICK_S) for row in table.to_pylist()]
        if rows:
            self._take(rows)
        self._scale(full)
        self._say(bool(ranks))
        self.balance.see(self._pool, self._lead)

    def _contexts_of(self, numbers: Sequence[int]) -> pa.Table:
        """CONTEXT_TASKS by their numbers; those of samples that came meanwhile are behind those known so far."""
        if max(numbers, default=-1) >= len(self._contexts):
            self._contexts = self._samples.contexts(self._samples.newest())
        return self._contexts.take(pa.array(numbers, pa.int64()))

    def _hand_out(self) -> bool:
        """Give every idle actor a task; False where there was one without."""
        while self._pool.num_idle > 0:
            task = self._lead.next_task()
            if task is None:
                room = self._lead.make_room()
                self._forget(room)
                if room:
                    continue
                return False
            tasks = self._contexts_of(task.contexts)
            keys = tasks.column("context_key").to_pylist()
            self._numbers |= dict(zip(keys, task.contexts, strict=True))
            self._queue.expect(keys)
            self._pool.submit(tasks.combine_chunks())
        return True

    def _take(self, rows: list[dict]) -> None:
        """Commit what actors wrote, unless something of it was refused."""
        for row in rows:
            refuse_failures(dict(zip(row["failed_keys"], row["failures"], strict=True)))
            if row["quality"]:
                quality = QualityReport.from_json(row["quality"])
                check_quality(quality, self._encode.quality, self._encode.state_format)
        for row in rows:
            self._lead.arrived([self._numbers.pop(key) for key in row["keys"]], row["num_bytes"])
            self.balance.encoded += len(row["keys"])
        self._queue.add(rows)
        self._num_failures = 0

    def _forget(self, numbers: list[int]) -> None:
        if numbers:
            self._queue.drop([self._key(number) for number in numbers])
            self.balance.dropped += len(numbers)

    def _scale(self, full: bool) -> None:
        now = time.monotonic()
        if not self._lead.missing():
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        waited_s = 0.0 if self._waiting_since is None else now - max(self._waiting_since, self._grown_at)
        if waited_s >= STARVED_S and not full:
            if self._pool.grow():
                self._grown_at = now
        elif full:
            self._pool.shrink(IDLE_S)

    def _say(self, is_training: bool) -> None:
        """A line where the trainer waits, or is waited for."""
        now = time.monotonic()
        if not is_training and now - self._said_at >= SAY_NO_WORKERS_S:
            self._said_at = now
            print(f"{self._name}: waiting for the training workers; {len(self._pool)} producers are ahead", flush=True)
        if self._waiting_since is None or now - max(self._waiting_since, self._said_at) < SAY_EVERY_S:
            return
        self._said_at = now
        steps = self._demand.steps_of(self._lead.window)
        print(
            f"{self._name}: waiting for {self._lead.missing()} states of steps {steps.start}-{steps.stop - 1}; "
            f"{len(self._pool)} producers, {self._pool.num_starting} of them starting",
            flush=True,
        )

    def _make_lead(self, job: StageJob, index: SampleIndex, settings: StreamStates) -> Lead:
        sizes = self._queue.sizes()
        known = pc.index_in(pa.array(list(sizes), pa.string()), self._contexts.column("context_key")).to_pylist()
        present = {number: size for number, size in zip(known, sizes.values(), strict=True) if number is not None}
        if self._queue.num_recovered:
            print(f"{job.name}: {self._queue.num_recovered} states of an interrupted run are used", flush=True)
        rule = LeadRule(self._demand.num_windows, settings.lead_mb * 1e6, settings.drop_consumed)

        def cut(numbers: list[int]) -> list[list[int]]:
            return _cut(self._contexts_of(numbers), numbers, job.encode.rows_per_fragment, settings.producers.max)

        return Lead(self._demand.window, cut, rule, present, pinned_contexts(job, index))

    def _key(self, number: int) -> str:
        return str(self._contexts.column("context_key")[number])


def pinned_contexts(job: StageJob, index: SampleIndex) -> list[int]:
    """Contexts that are read again whenever training starts, and the null context where all samples share one."""
    rows = preview_rows(job, index) if job.stage.sample_every else index.state[:0]
    pinned = [*index.state[rows].tolist(), *index.null_state[rows].tolist()]
    if (index.null_state == index.null_state[0]).all():
        pinned.append(int(index.null_state[0]))
    return list(dict.fromkeys(pinned))


def _cut(contexts: pa.Table, numbers: list[int], rows_per_fragment: int, num_workers: int) -> list[list[int]]:
    """Tasks of neighbours in length, which share forward passes."""
    texts = contexts.column("text").to_pylist()
    order = sorted(range(len(numbers)), key=lambda place: -len(texts[place]))
    pieces = num_pieces(len(numbers), rows_per_fragment, num_workers)
    size = -(-len(numbers) // pieces) if pieces else 1
    return [[numbers[place] for place in order[start : start + size]] for start in range(0, len(order), size)]
