"""What each kind of job asks of the cluster: workers, cores, devices, and labels of the nodes that may run it."""

from typing import Any

from pydantic import Field

from mos.config import StrictConfig


class WorkerConfig(StrictConfig):
    """A group of equal workers (a training gang, an actor pool)."""

    num: int = Field(default=1, ge=1)
    """Workers (actors or ranks) at the same time."""
    cpus: float = Field(default=1, gt=0)
    """Logical cores of each."""
    gpus: float = Field(default=0, ge=0)
    """Devices of each; 0 runs on the CPU."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Label selector of the nodes that may run them, for example `{"ray.io/market-type" = "!spot"}`."""

    def actor_options(self) -> dict[str, Any]:
        """Keyword arguments of a Ray actor or of a Ray Data stage for one of these workers."""
        options: dict[str, Any] = {"num_cpus": self.cpus}
        if self.gpus:
            options["num_gpus"] = self.gpus
        if self.labels:
            options["label_selector"] = dict(self.labels)
        return options
