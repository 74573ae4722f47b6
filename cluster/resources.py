"""What each kind of job asks of the cluster: workers, cores, devices, and labels of the nodes that may run it."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from mos.workers import WorkerResources

AUTO = "auto"
"""In place of a worker's number: what this machine's cores are good for, see `share_cores`."""

LEAST_SHARE = 8
"""Samples of a batch that make a training process worth having: one a core, each of one thread, trained 1.4 times as
fast on two cores as one process of two threads, and 0.85 times beside a busy process."""

CORES_AN_ACTOR = 4
"""Actors that share no batch use up to so many cores as threads: the others need not be started."""


def actor_options(worker: WorkerResources) -> dict[str, Any]:
    """Keyword arguments of a Ray actor, or of a stage of Ray Data, for one such worker."""
    options: dict[str, Any] = {"num_cpus": worker.cpus}
    if worker.gpus:
        options["num_gpus"] = worker.gpus
    if worker.labels:
        options["label_selector"] = dict(worker.labels)
    return options


def available_cores() -> int:
    """Physical cores that this process may use: not all of the machine where a container or its affinity says so."""
    import joblib  # a quarter of a second, for configs that leave a number open

    return int(joblib.cpu_count(only_physical_cores=True))


def share_cores(workers: Mapping[str, Any], cores: int, samples: int | None) -> dict[str, Any]:
    """A worker group of a config with numbers in place of `auto`.

    Args:
        workers: `num`, `cpus` or both are `auto`; other settings stay as they are.
        cores: to share out.
        samples: of a batch that the workers share equally, for a training gang; None for workers that share nothing.
    """
    num, cpus = workers.get("num", 1), workers.get("cpus", 1)
    if num == AUTO:
        each = 1 if cpus == AUTO else positive(cpus) or 1
        if samples is not None:
            num = _ranks(samples, max(1, int(cores // each)))
        else:
            num = max(1, int(cores // (CORES_AN_ACTOR if cpus == AUTO else each)))
    if cpus == AUTO:
        cpus = max(1, int(cores // (positive(num) or 1)))
    return {**workers, "num": num, "cpus": cpus}


def leaves_open(workers: object) -> bool:
    """True if a worker group of a config that is not validated yet has `auto` in place of a number."""
    return isinstance(workers, Mapping) and AUTO in (workers.get("num"), workers.get("cpus"))


def positive(value: object) -> float | None:
    """A number of a config that is not validated yet; None where it is none and will be refused by its name."""
    number = float(value) if isinstance(value, Real) and value is not True else 0.0
    return number if 0 < number < math.inf else None


def _ranks(samples: int, most: int) -> int:
    """Number of ranks with equal shares worth a process each: the one that leaves fewest of `most` cores
    idle, the larger of two such.
    """
    shares = [num for num in range(2, min(most, samples // LEAST_SHARE) + 1) if samples % num == 0]
    return max([1, *shares], key=lambda num: (most // num * num, num))
