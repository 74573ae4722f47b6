"""Where the jobs of a run get their processes from, as its config says it."""

from pydantic import Field

from cluster.resources import available_cores
from mos.config import StrictConfig
from mos.workers import GangConfig, WorkerConfig


class ClusterConfig(StrictConfig):
    """Cluster of a run's jobs."""

    num_cpus: int | None = Field(default=None, ge=1)
    """Cores of a local Ray; null: the physical cores that this machine lets it use. A cluster that is already there
    keeps its own."""
    object_store_mb: int = Field(default=512, ge=80)
    """Shared memory of a local Ray, in MiB."""
    hub_downloads: bool = False
    """Let workers fetch pinned weights from the Hugging Face hub; off, they only read local paths and caches."""
    train: GangConfig = GangConfig()
    """The training gang: `num` is the world size, the smallest one where `max_num` is set."""
    max_failures: int = Field(default=3, ge=-1)
    """Restarts of a training gang that lost a worker, before the step fails; -1: without end."""
    generate: WorkerConfig = WorkerConfig()
    """The pool of actors that draw images."""

    @property
    def local_cores(self) -> int:
        """Cores of a local Ray."""
        return self.num_cpus or available_cores()
