"""Where a stage's hidden states come from: a finished table, producers beside the trainer, or the trainer's own tower.

The same plan gives the same batches, to the last bit, from each of them.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mos.config import StrictConfig
from mos.workers import PoolBounds


class CacheStates(StrictConfig):
    """`encode` writes the states of every context once; training reads them."""

    type: Literal["cache"] = "cache"


class StreamStates(StrictConfig):
    """Actors encode what the coming steps need while training goes on; a table is the queue between them."""

    renamed: ClassVar[Mapping[str, str]] = {"min_actors": "producers.min", "max_actors": "producers.max"}

    type: Literal["stream"] = "stream"
    lead_mb: float = Field(4096.0, gt=0)
    """Bound on the states encoded ahead of the trainer, MB (10^6 bytes) at rest; holds at least two windows."""
    window_steps: int = Field(20, ge=1)
    """Updates whose contexts are encoded together; consumed states are dropped a window at a time."""
    drop_consumed: bool = True
    """Keep the states in a queue of the stage's own and drop what was trained on. False: leave them in the shared
    states table, for later epochs, stages and runs."""
    producers: PoolBounds = PoolBounds(max=4)
    """Each has the cores and GPUs of an actor of `encode.actors`; there are more than the fewest while the trainer
    starves and the cluster has room beside it."""
    timeout_s: float = Field(900.0, gt=0)
    """Seconds a training worker waits for states before it gives up."""


class RecomputeStates(StrictConfig):
    """The tower runs inside every training worker, on its device; nothing is stored."""

    type: Literal["recompute"] = "recompute"


class AutoStates(StrictConfig):
    """The cheapest by the cost model (`pipelines/plan.py` prints its reasons); settled by the encode step."""

    type: Literal["auto"] = "auto"
    stream: StreamStates = StreamStates()
    """How to stream, should that be the cheapest."""


StatesConfig = Annotated[CacheStates | StreamStates | RecomputeStates | AutoStates, Field(discriminator="type")]
ChosenStates = CacheStates | StreamStates | RecomputeStates
