"""A gang of training workers under Ray Train: started together, restarted together when one dies."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.resources import WorkerConfig
from cluster.room import refuse_too_many
from mos.errors import UserError

Job = TypeVar("Job")


def run_workers(
    worker: Callable[[Job, torch.device], None],
    job: Job,
    workers: WorkerConfig,
    *,
    folder: Path,
    max_failures: int,
    is_stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Run `worker(job, device)` on every worker, inside one torch process group: NCCL with GPUs, gloo without.

    When a worker dies, Ray Train stops the others, and the whole gang is started again; `worker` is expected to go on
    from its own checkpoints. A user's mistake is not tried again.

    Args:
        worker: a function of an importable module.
        job: plain data, the same for every worker.
        workers: size of the gang and of each worker.
        folder: where Ray Train keeps its own few files; seen by all nodes.
        max_failures: restarts before giving up; -1 never does.
        is_stopping: whether a gang that failed is not to be started again, since it was about to end.

    Raises:
        UserError: a worker raised it, or the cluster can never hold the gang.
        ray.train.TrainingFailedError: the gang failed once more than `max_failures`.
    """
    refuse_too_many("cluster.train.num", workers.num, workers.actor_options())
    resources: dict[str, float] = {"CPU": workers.cpus}
    if workers.gpus:
        resources["GPU"] = workers.gpus
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config={"worker": worker, "job": job, "num_threads": max(1, int(workers.cpus))},
        torch_config=TorchConfig(backend="nccl" if workers.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers.num,
            use_gpu=workers.gpus > 0,
            resources_per_worker=resources,
            label_selector=dict(workers.labels) or None,
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=0),  # Ray Train would repeat a user's mistake, too
        ),
    )
    failures = 0
    while True:
        try:
            _aside(trainer.fit)
            return
        except ray.train.TrainingFailedError as error:
            mistake = _user_error(error)
            if mistake is not None:
                raise mistake from error
            failures += 1
            if 0 <= max_failures < failures or is_stopping():
                raise


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
    config["worker"](config["job"], device)


def _user_error(error: BaseException) -> UserError | None:
    """The user's mistake that a worker reported, if that is why training failed."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, UserError):
                return UserError(str(cause))
            cause = cause.__cause__
    return None
