"""The velocity loss on samples that nothing is trained on, under the same noise and timesteps every time.

The loss of training cannot tell two checkpoints apart: its samples, noise and timesteps differ from step to step, and
what was learned by heart looks like what was understood. Here all of that stands still, so two values compare, over the
steps of a stage and between stages and runs with the same held-out samples.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from mos.loader.batch import Batch, num_micro_batches
from mos.model.mos import MoS
from mos.training.appended import AppendedFile, line_of, read_records
from mos.training.loop import sample_losses

TIMESTEP_BINS = 4
"""Equal parts of [0, 1], of which 1 is noise."""
FILE = "held_out.jsonl"


@dataclass(frozen=True)
class HeldOutLoss:
    """One line of held_out.jsonl."""

    step: int
    """Updates done."""
    loss: float
    """Mean over the samples."""
    by_timestep: dict[str, float]
    """Mean over those whose timestep lies in a part of [0, 1], such as `0.25-0.50`; parts without samples are left
    out."""
    by_source: dict[str, float]
    """Mean over those of a source."""
    samples: int

    @classmethod
    def of(cls, sums: Float64[Tensor, "rows 2"], sources: Sequence[str], step: int) -> "HeldOutLoss":
        """Means of what `sum_losses` gave, added up over the ranks."""
        width = 1 / TIMESTEP_BINS
        bins = [f"{number * width:.2f}-{(number + 1) * width:.2f}" for number in range(TIMESTEP_BINS)]
        means = {
            name: total / count for name, (total, count) in zip([*bins, *sources], sums.tolist(), strict=True) if count
        }
        total, count = sums[:TIMESTEP_BINS].sum(0).tolist()
        return cls(
            step=step,
            loss=total / count if count else float("nan"),
            by_timestep={name: means[name] for name in bins if name in means},
            by_source={name: means[name] for name in sources if name in means},
            samples=int(count),
        )


@torch.no_grad()
def sum_losses(
    model: MoS,
    batches: Iterable[tuple[Batch, NDArray[np.integer]]],
    num_sources: int,
    device: torch.device,
    micro_batch_size: int | None = None,
) -> Float64[Tensor, "rows 2"]:
    """Sum of the samples' losses (paper eq. 1) and their number, for each part of [0, 1] and then for each source.

    Args:
        model: computes in its own dtype, without exploration.
        batches: on the CPU; with each the source number of every sample.
        num_sources: how many there are.
        device: the model's.
        micro_batch_size: samples of a forward pass at most; None: the whole batch.
    """
    model.eval()
    sums = torch.zeros(TIMESTEP_BINS + num_sources, 2, dtype=torch.float64)
    for batch, source in batches:
        parts = batch.split(num_micro_batches(len(batch), 1, micro_batch_size))
        losses = torch.cat([sample_losses(model, part.to(device)) for part in parts]).double().cpu()
        counts = torch.ones_like(losses) if batch.weight is None else batch.weight.double()
        found = torch.stack([losses, counts], dim=1)
        part = (batch.timesteps * TIMESTEP_BINS).long().clamp(max=TIMESTEP_BINS - 1)
        sums.index_add_(0, part, found)
        sums.index_add_(0, TIMESTEP_BINS + torch.from_numpy(np.asarray(source, dtype=np.int64)), found)
    model.train()
    return sums


class HeldOutFile:
    """Lines of a stage's folder, in `held_out.jsonl` and TensorBoard; a full disk does not stop who writes."""

    def __init__(self, folder: Path) -> None:
        self._lines = AppendedFile(folder / FILE)
        self._tensorboard = folder / "tensorboard"

    def write(self, measured: HeldOutLoss) -> None:
        """Add one line."""
        self._lines.add(line_of(measured))
        from torch.utils.tensorboard import SummaryWriter

        losses = {"loss": measured.loss}
        losses |= {f"timestep/{name}": loss for name, loss in measured.by_timestep.items()}
        losses |= {f"source/{name}": loss for name, loss in measured.by_source.items()}
        with suppress(OSError), SummaryWriter(str(self._tensorboard), filename_suffix=".held_out") as board:
            for name, loss in losses.items():
                board.add_scalar(f"held_out/{name}", loss, measured.step)


def read_held_out(folder: Path) -> list[HeldOutLoss]:
    """Lines of a stage by step; of a step that was done again after an interruption the last, damaged ones left out."""
    found = {measured.step: measured for measured in read_records(folder / FILE, HeldOutLoss)}
    return [found[step] for step in sorted(found)]


def best_step(lines: Sequence[HeldOutLoss]) -> int | None:
    """Step with the lowest loss; None without lines."""
    finite = [line for line in lines if np.isfinite(line.loss)]
    return min(finite, key=lambda line: line.loss).step if finite else None
