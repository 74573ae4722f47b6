"""A gang of training workers under Ray Train: started together, restarted together when one dies."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.resources import actor_options
from cluster.room import refuse_too_many, told_while_waiting
from mos.errors import UserError
from mos.files import written_whole
from mos.workers import GangConfig

Job = TypeVar("Job")

LOOK_FOR_ROOM_S = 300.0
"""Between looks for room that a gang may grow into: each growth costs a start and the steps since a checkpoint."""


def run_workers(
    worker: Callable[[Job, torch.device], None],
    job: Job,
    workers: GangConfig,
    *,
    folder: Path,
    max_failures: int,
    timeout_s: float = 1800.0,
) -> None:
    """Run `worker(job, device)` on every worker, inside one torch process group: NCCL with GPUs, gloo without.

    When a worker dies, Ray Train stops the others and starts the whole gang again, with as many as there is room for
    where the gang may have several sizes; it does so, too, where there is room for more. `worker` is expected to go on
    from its own checkpoints. After a user's mistake the gang that is started again ends at once.

    Args:
        worker: a function of an importable module.
        job: plain data, the same for every worker.
        workers: size of the gang and of each worker.
        folder: where Ray Train keeps its own few files; seen by all nodes.
        max_failures: restarts before giving up; -1 never does.
        timeout_s: seconds that a rank waits for the others in a collective.

    Raises:
        UserError: a worker raised it, or the cluster can never hold the gang.
        ray.train.TrainingFailedError: the gang failed once more than `max_failures`.
    """
    options = actor_options(workers)
    refuse_too_many("cluster.train.num", workers.num, options)
    if len(ray.nodes()) == 1 and workers.max_num is None:
        # One process less to start: a lone node that is taken away takes the gang with it.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    resources: dict[str, float] = {"CPU": workers.cpus}
    if workers.gpus:
        resources["GPU"] = workers.gpus
    mistake = folder.with_name(f"{folder.name}-mistake.txt")
    begun = folder.with_name(f"{folder.name}-begun")
    for left in (mistake, begun):
        left.unlink(missing_ok=True)
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config={
            "worker": worker,
            "job": job,
            "num_threads": workers.threads,
            "mistake": str(mistake),
            "begun": str(begun),
        },
        torch_config=TorchConfig(backend="nccl" if workers.gpus else "gloo", timeout_s=ceil(timeout_s)),
        scaling_config=ScalingConfig(
            num_workers=workers.num if workers.max_num is None else (workers.num, workers.max_num),
            elastic_resize_monitor_interval_s=LOOK_FOR_ROOM_S,
            use_gpu=workers.gpus > 0,
            resources_per_worker=resources,
            label_selector=dict(workers.labels) or None,
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=max_failures),
        ),
    )
    try:
        with told_while_waiting("cluster.train.num", workers.num, options, begun.is_file):
            _aside(trainer.fit)
    except ray.train.TrainingFailedError as error:
        if not mistake.is_file():
            raise
        raise UserError(mistake.read_text(encoding="utf-8")) from error
    if mistake.is_file():
        raise UserError(mistake.read_text(encoding="utf-8"))


def _aside(call: Callable[[], object]) -> None:
    """Call in another thread: this one stays free to act on signals, of which Ray Train would take SIGINT for itself.

    An exception that a signal raises here leaves the call behind; it ends with the process.
    """
    outcome: Future[object] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="gang", daemon=True).start()
    outcome.result()


def _run_worker(config: dict[str, Any]) -> None:
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(config["num_threads"])
    Path(config["begun"]).touch()
    mistake = Path(config["mistake"])
    if mistake.is_file():  # of the gang before this one: a user's mistake does not go away by trying again
        return
    try:
        config["worker"](config["job"], device)
    except UserError as error:
        with written_whole(mistake) as partial:
            partial.write_text(str(error), encoding="utf-8")
        raise
