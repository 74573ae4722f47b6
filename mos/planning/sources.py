"""Costs of one stage with its states cached, streamed or recomputed: hours, bytes and money by formula.

`cache`      encode every context once, keep the table while it is trained on
`stream`     encode workers encode every read, a bounded lead ahead of the trainer
`recompute`  the tower runs inside the training worker
"""

from dataclasses import dataclass
from typing import Literal

from mos.planning.machine import CpuMachine, GpuMachine

SourceName = Literal["cache", "stream", "recompute"]
SOURCES: tuple[SourceName, ...] = ("cache", "stream", "recompute")

Machine = GpuMachine | CpuMachine

SECONDS = 3600.0
"""Of an hour."""
MONTH = 730.0
"""Hours."""


@dataclass(frozen=True)
class StageLoad:
    """One training stage, as the cost model sees it. Means are per context or per sample."""

    name: str
    contexts: int
    """Distinct contexts of the stage's view."""
    draws: int
    """Samples trained on: steps * batch size."""
    state_bytes: float
    """Bytes of a context in the table's format, at rest."""
    tower_flops: float
    """FLOPs of the tower over one context."""
    train_flops: float
    """FLOPs of the training step over one sample."""
    workers: int
    """Training workers."""
    encoders: int
    """Encode workers that fill a table, at most."""
    producers: int
    """Encode workers of a stream, at most."""
    reads_per_draw: float = 1.0
    """Share of the draws that read their own context: 1 less caption dropout, whose one null context stays in RAM."""
    padding: float = 1.0
    """Tokens that the tower computes for a batch inside a training worker, against those of full passes: encode
    workers sort many contexts by length, a batch fills its passes up with copies."""
    kind: str = "generate"
    """Stages of one kind read the same contexts: those of a smaller view lie inside a larger one's."""
    present: int = 0
    """Contexts of this stage's kind that already stand in the table."""
    lead_bytes: float = 4e9
    """How far a stream's producers may run ahead of the trainer."""
    allowed: tuple[SourceName, ...] = SOURCES
    """Sources to choose from; a stage whose source is settled has one."""

    @property
    def reads(self) -> float:
        """Contexts read over the stage."""
        return self.draws * self.reads_per_draw

    @property
    def reads_per_context(self) -> float:
        """Reads of a context over the stage."""
        return self.reads / max(1, self.contexts)


@dataclass(frozen=True)
class TableShare:
    """One stage's share of a shared table."""

    new: int = 0
    """Contexts encoded for it."""
    held_bytes: float = 0.0
    """Bytes of the table kept while it trains, for it and for later stages."""


@dataclass(frozen=True)
class SourceCost:
    """Time and money of a stage with one source of states."""

    source: SourceName
    tower_flops: float
    """FLOPs of the tower over the whole stage."""
    encode_hours: float
    """Hours of encode workers, summed over them."""
    train_hours: float
    """Hours of training workers, summed over them; waits and a tower inside included."""
    tower_hours: float
    """Of them, the tower's."""
    wait_hours: float
    """Of them, spent waiting for states."""
    wall_hours: float
    """From the first step to the last."""
    bytes_held: float
    """Bytes of states at rest while the stage runs: the table's, and the lead."""
    lead_bytes: float
    """Of them, a stream's lead."""
    bytes_per_s: float
    """States read by one training worker, bytes/s, if it never waited; 0 where nothing is read."""
    encoders_to_keep_up: float
    """Encode workers that would keep every training worker busy; 0 where they do not run beside it."""
    short_of_producers: bool
    """Whether it is for want of encode workers beside it that the trainer waits."""
    storage_dollars: float
    dollars: float
    """All of it."""


def source_cost(source: SourceName, load: StageLoad, machine: Machine, share: TableShare) -> SourceCost:
    """Cost of a stage.

    Args:
        source: where its states come from.
        load: the stage.
        machine: speeds and prices.
        share: its part of a shared table; rows are held for other stages whatever this stage's own source is.
    """
    train = load.draws * load.train_flops / (machine.train_tflops * 1e12) / SECONDS
    one_context = load.tower_flops / (machine.tower_tflops * 1e12) / SECONDS
    read = load.reads * load.state_bytes / (machine.read_gb_per_s * 1e9) / SECONDS
    encode = tower = wait = demand = keep_up = 0.0
    match source:
        case "cache":
            encode = share.new * one_context
            wait = max(0.0, read - train)
        case "stream":
            encode = load.reads * one_context
            wait = max(0.0, read - train, encode / load.producers * load.workers - train)
            keep_up = encode / max(train, read) * load.workers
        case "recompute":
            tower = load.reads * one_context * load.padding
    if source != "recompute":
        demand = load.reads * load.state_bytes / (train * SECONDS)
    worker_hours = train + tower + wait
    wall = worker_hours / load.workers
    lead = min(load.lead_bytes, load.reads * load.state_bytes) if source == "stream" else 0.0
    # While a table is being encoded it is half full on average.
    kept_hours = wall + (encode / load.encoders / 2 if source == "cache" else 0.0)
    storage = (share.held_bytes * kept_hours + lead * wall) / 1e9 / MONTH * machine.storage_gb_month
    return SourceCost(
        source=source,
        tower_flops=(encode + tower) * SECONDS * machine.tower_tflops * 1e12,
        encode_hours=encode,
        train_hours=worker_hours,
        tower_hours=tower,
        wait_hours=wait,
        wall_hours=wall,
        bytes_held=share.held_bytes + lead,
        lead_bytes=lead,
        bytes_per_s=demand,
        encoders_to_keep_up=keep_up,
        short_of_producers=keep_up > load.producers,
        storage_dollars=storage,
        dollars=storage + encode * machine.encode_hour + worker_hours * machine.train_hour,
    )
