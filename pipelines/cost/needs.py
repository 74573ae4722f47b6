"""What each training stage needs of a cluster: memory, disk, network, hours and money, each stage as recommended."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from mos.planning.recommend import Recommendation
from mos.planning.sources import SourceName
from mos.planning.units import bytes_text, hours_text, money
from mos.tables.schema import TASK_EDIT
from pipelines.cost.figures import StageFigures, latents_shape, worker_share
from pipelines.cost.memory import MASTER_BYTES, TrainingMemory, training_memory
from pipelines.run.config import RunConfig

COLUMNS = (
    "stage",
    "workers",
    "device memory",
    "of it: weights, moments, average",
    "gathered",
    "activations",
    "host memory",
    "disk",
    "states read",
    "hours",
    "cost",
)


@dataclass(frozen=True)
class StageNeeds:
    """One stage; memory, disk and network are those of one worker unless said otherwise."""

    stage: str
    workers: int
    source: SourceName
    device: TrainingMemory
    host_bytes: float
    """Rows that are kept and batches that are built ahead; what Python and Ray take, some GiB, comes on top."""
    disk_bytes: float
    """Of the run: states and the stage's checkpoints."""
    read_bytes_per_s: float
    """States, at full speed; 0 where the tower runs in the worker."""
    hours: float
    """From the first step to the last."""
    dollars: float

    def cells(self) -> tuple[str, ...]:
        """As `COLUMNS` names them."""
        parts = self.device
        sharded = parts.weights + parts.moments + parts.average
        return (
            self.stage,
            str(self.workers),
            bytes_text(parts.total),
            bytes_text(sharded),
            bytes_text(parts.gathered),
            bytes_text(parts.activations),
            bytes_text(self.host_bytes),
            bytes_text(self.disk_bytes),
            f"{bytes_text(self.read_bytes_per_s)}/s ({self.source})",
            hours_text(self.hours),
            money(self.dollars),
        )


def stage_needs(
    config: RunConfig,
    figures: Mapping[str, StageFigures],
    recommended: Sequence[Recommendation],
) -> list[StageNeeds]:
    """Of every stage; its memory takes some seconds to find."""
    known: dict[tuple[object, ...], TrainingMemory] = {}
    needs = []
    for item in recommended:
        stage, figure, workers = config.stage(item.stage), figures[item.stage], config.cluster.train.num
        share = worker_share(config, item.stage)
        shape = (
            stage.resolution,
            stage.tasks,
            min(share, stage.micro_batch_size or share),
            stage.activation_checkpointing,
            stage.engine,
            stage.optimizer.type,
            round(figure.contexts.tokens.mean),
        )
        if shape not in known:
            known[shape] = training_memory(config, item.stage, figure)
        latents = 3 if TASK_EDIT in stage.tasks else 2  # latent, noise, and the picture to edit
        sample = figure.raw_bytes + latents * MASTER_BYTES * math.prod(latents_shape(config, item.stage, 1))
        ahead = stage.loader.prefetch_batches + 1
        cost = item.chosen.cost
        for_ever = stage.steps // stage.keep_checkpoints_every if stage.keep_checkpoints_every else 0
        num = for_ever + stage.keep_checkpoints + 1  # one of them being written
        # Copies of a sharded model are written once.
        checkpoints = num * known[shape].checkpoint * stage.engine.num_shards(workers)
        needs.append(
            StageNeeds(
                stage=item.stage,
                workers=workers,
                source=item.source,
                device=known[shape],
                host_bytes=stage.loader.cache_bytes + ahead * share * sample,
                disk_bytes=cost.bytes_held + checkpoints,
                read_bytes_per_s=cost.bytes_per_s,
                hours=cost.train_hours / workers,
                dollars=cost.dollars,
            )
        )
    return needs


def needs_table(needs: Sequence[StageNeeds]) -> Table:
    """For a terminal."""
    table = Table(title="What each stage needs", title_justify="left")
    for position, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if position else "left")
    for stage in needs:
        table.add_row(*stage.cells())
    table.caption = "memory and network of one worker; disk: states and checkpoints of the run"
    return table


def needs_markdown(needs: Sequence[StageNeeds]) -> str:
    """For a page."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(stage.cells() for stage in needs)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
