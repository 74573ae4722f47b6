"""What each kind of job asks of the cluster: workers, cores, devices, and labels of the nodes that may run it."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from pydantic import Field

from mos.config import StrictConfig

AUTO = "auto"
"""In place of a worker's number: what this machine's cores are good for, see `share_cores`."""

CORES_A_WORKER = 4
"""Up to so many cores work as the threads of one process: faster than as many processes, whose collectives wait for the
slowest, and much faster where others use the cores, too."""

LEAST_SHARE = 8
"""Samples of a batch that make a training process worth having."""


class WorkerConfig(StrictConfig):
    """A group of equal workers (a training gang, an actor pool)."""

    num: int = Field(default=1, ge=1)
    """Workers (actors or ranks) at the same time; in a run's config also `auto`."""
    cpus: float = Field(default=1, gt=0)
    """Cores of each; in a run's config also `auto`: this machine's cores, shared out among the workers."""
    gpus: float = Field(default=0, ge=0)
    """Devices of each; 0 runs on the CPU."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Label selector of the nodes that may run them, for example `{"ray.io/market-type" = "!spot"}`."""

    @property
    def device(self) -> str:
        """Where its models live."""
        return "cuda" if self.gpus > 0 else "cpu"

    def actor_options(self) -> dict[str, Any]:
        """Keyword arguments of a Ray actor or of a Ray Data stage for one of these workers."""
        options: dict[str, Any] = {"num_cpus": self.cpus}
        if self.gpus:
            options["num_gpus"] = self.gpus
        if self.labels:
            options["label_selector"] = dict(self.labels)
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
        if cpus != AUTO:
            most = max(1, int(cores // (positive(cpus) or 1)))
        else:
            most = cores if samples is None else max(1, cores // CORES_A_WORKER)
        num = most if samples is None else _largest_divisor(samples, most)
    if cpus == AUTO:
        cpus = max(1, int(cores // (positive(num) or 1)))
    return {**workers, "num": num, "cpus": cpus}


def leaves_open(workers: object) -> bool:
    """Whether a worker group of a config that is not validated yet has `auto` in place of a number."""
    return isinstance(workers, Mapping) and AUTO in (workers.get("num"), workers.get("cpus"))


def positive(value: object) -> float | None:
    """A number of a config that is not validated yet; None where it is none and will be refused by its name."""
    number = float(value) if isinstance(value, Real) and value is not True else 0.0
    return number if 0 < number < math.inf else None


def _largest_divisor(samples: int, most: int) -> int:
    """The largest number of equal shares, up to `most`, that are not too small to be worth a process."""
    most = min(most, samples // LEAST_SHARE)
    return next((num for num in range(most, 1, -1) if samples % num == 0), 1)
