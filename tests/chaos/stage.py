"""A small stage over really encoded pictures, for gangs that are interrupted: curated, encoded, ready to be trained."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.actor_pool import ActorPool, PoolTime
from mos.feeding.config import StreamStates
from mos.feeding.progress import StreamProgress
from mos.planning.sources import SourceName
from mos.tables.blobs import plain_schema
from mos.tables.lance import create_table
from mos.training.sharding import EngineConfig
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from pipelines.train.driver import prepare
from pipelines.train.job import StageJob, make_job
from pipelines.train.produce_states import Producer, StateProducer
from pipelines.train.samples import StageSamples
from tests.kills import make_run
from tests.pipelines.growing_run import finish_encode

BATCH_SIZE = 5
"""No number of ranks but one divides it."""
NUM_SAMPLES = 22
"""Not a multiple of it: samples are carried from one epoch into the next."""
STAGE = {
    "batch_size": BATCH_SIZE,
    "log_every": 3,
    "checkpoint_every": 4,
    "keep_checkpoints": 2,
    "ema_decay": 0.9,
    "micro_batch_size": 2,
    "hung_after_s": 30.0,
}
SETTINGS: dict[SourceName, dict[str, Any]] = {
    "cache": {"type": "cache"},
    "stream": {"type": "stream", "window_steps": 2, "lead_mb": 1, "timeout_s": 60},
    "recompute": {"type": "recompute"},
}


def encoded_config(folder: Path) -> RunConfig:
    """A run whose curation and encoding are finished."""
    config = load_run(make_run(folder, NUM_SAMPLES))
    finish_encode(config, NUM_SAMPLES)
    return config


def stage_job(
    config: RunConfig, folder: Path, source: SourceName, engine: EngineConfig, num_steps: int, **settings: Any
) -> StageJob:
    """The stage, to be trained in a folder of its own."""
    made = make_job(Run(config).step("stage1"), Run(config))
    values = made.stage.model_dump() | STAGE | {"steps": num_steps, "states": SETTINGS[source]} | settings
    stage = type(made.stage).model_validate(values | {"engine": engine})
    stage = stage.model_copy(update={"optimizer": stage.optimizer.model_copy(update={"lr": 1e-3, "final_lr": 1e-4})})
    job = replace(made, stage=stage, folder=folder, states=stage.states, decay_steps=num_steps)
    job = replace(job, queue=str(folder / "queue.lance")) if source == "stream" else job
    prepare(job, config)
    return job


class PoolOfOne(ActorPool):
    """One producer in this process behind the pool's own methods: Ray alone is left out."""

    def __init__(self, producer: Producer) -> None:
        self.time, self.num_died = PoolTime(), 0
        self._producer = producer
        self._done: list[pa.Table] = []

    def __len__(self) -> int:
        return 1

    @property
    def num_idle(self) -> int:
        return 0 if self._done else 1

    @property
    def num_starting(self) -> int:
        return 0

    def submit(self, task: pa.Table) -> None:
        self._done.append(self._producer(task))

    def collect(self, timeout_s: float) -> list[pa.Table]:
        time.sleep(0 if self._done else min(timeout_s, 0.02))
        done, self._done = self._done, []
        return done

    def grow(self) -> bool:
        return False

    def shrink(self, idle_s: float) -> bool:
        return False


@contextmanager
def produced(job: StageJob) -> Iterator[None]:
    """The stage's states are produced for the duration of the block, if it streams them."""
    if not isinstance(job.states, StreamStates):
        yield
        return
    create_table(job.queue, plain_schema(job.tables.states.open().schema))
    StreamProgress(job.folder / "stream").clear()
    pool = PoolOfOne(Producer(job.encode, job.tables.samples, job.queue, job.image_limits))
    producer = StateProducer(job, StageSamples(job).index(0), job.states, pool)
    producer.start()
    try:
        yield
    finally:
        producer.stop()
    assert producer.failure is None, producer.failure
