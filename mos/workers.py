"""Workers that a config asks for: how many, and the cores, devices and nodes of each."""

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from mos.config import StrictConfig


class WorkerResources(StrictConfig):
    """Cores, devices and nodes of each of a group of equal workers."""

    cpus: float = Field(default=1, gt=0)
    """Cores of each, and threads of torch; `auto` where the section says so."""
    gpus: float = Field(default=0, ge=0)
    """Devices of each; 0 runs on the CPU."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Label selector of the nodes that may run them, for example `{"ray.io/market-type" = "!spot"}`."""

    @property
    def device(self) -> str:
        """Device of its models."""
        return "cuda" if self.gpus > 0 else "cpu"

    @property
    def threads(self) -> int:
        """Threads of torch in each."""
        return max(1, int(self.cpus))


class WorkerConfig(WorkerResources):
    """A fixed number of equal workers: a training gang, the actors that draw or score pictures."""

    num: int = Field(default=1, ge=1)
    """Workers at the same time; `auto` where the section says so."""


class GangConfig(WorkerConfig):
    """A training gang of equal workers, of one size or of a range of sizes."""

    max_num: int | None = Field(default=None, ge=1)
    """The gang grows up to here where the cluster has room, and goes on with as few as `num` where workers are lost;
    None: it has `num` workers always. A change of size goes back to the last checkpoint, and a node that is lost
    without notice counts among `cluster.max_failures`. For clusters whose nodes are alike and do nothing else."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_num is not None and self.max_num < self.num:
            raise ValueError(f"max_num = {self.max_num} is less than num = {self.num}")
        return self

    @property
    def sizes(self) -> range:
        """Numbers of workers that it may have."""
        return range(self.num, (self.max_num or self.num) + 1)


class PoolBounds(StrictConfig):
    """Fewest and most workers of a pool that grows while work is waiting."""

    renamed: ClassVar[Mapping[str, str]] = {"min_actors": "min", "max_actors": "max"}

    min: int = Field(default=1, ge=1)
    """Workers kept from the start; the cluster must have room for them."""
    max: int = Field(default=2, ge=1)
    """The pool grows up to here while work is waiting and there is room; `auto` where the section says so."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max = {self.max} is less than min = {self.min}")
        return self


class PoolConfig(PoolBounds, WorkerResources):
    """A growing pool of equal workers."""

    renamed: ClassVar[Mapping[str, str]] = {
        **PoolBounds.renamed, "threads_per_actor": "cpus", "gpus_per_actor": "gpus"
    }  # fmt: skip
