"""What training reports: JSON lines and TensorBoard from rank 0, and a line for people made from them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

TAIL_BYTES = 4096
"""More than one line of metrics.jsonl."""


@dataclass(frozen=True)
class StepMetrics:
    """One line of metrics.jsonl; means are over the updates since the line before."""

    step: int
    """Updates done."""
    epoch: int
    loss: float
    """Mean over all ranks' samples."""
    lr: float
    """Of the latest update."""
    grad_norm: float
    """Of the latest update, before clipping."""
    samples_per_s: float
    """Over all ranks."""
    data_wait: float
    """Share of the time that rank 0 waited for batches, in [0, 1]."""
    nonfinite_steps: int
    """Updates skipped for a non-finite gradient since the stage began."""
    left_out: int = 0
    """Samples of these updates that did not count, over all ranks: their latents or states are not finite."""


class MetricsWriter:
    """Appends to `metrics.jsonl` and to TensorBoard event files in one folder."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Drop lines beyond `first_step`, which a resumed run will write again."""
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(folder) if line.step <= first_step]
        self._lines = (folder / "metrics.jsonl").open("w", encoding="utf-8")
        for line in kept:
            self._append(line)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def write(self, metrics: StepMetrics) -> None:
        """Add one line; it is on disk when this returns."""
        self._append(metrics)
        for name, value in asdict(metrics).items():
            if name != "step":
                self._board.add_scalar(f"train/{name}", value, metrics.step)
        self._board.flush()

    def close(self) -> None:
        """Close both files."""
        self._lines.close()
        self._board.close()

    def _append(self, metrics: StepMetrics) -> None:
        self._lines.write(json.dumps(asdict(metrics)) + "\n")
        self._lines.flush()


def read_metrics(folder: Path) -> list[StepMetrics]:
    """All lines written so far; a last line that is still being written is left out."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [StepMetrics(**json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]


def latest_metrics(folder: Path) -> StepMetrics | None:
    """The last complete line; reads no more than the end of the file."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().rpartition(b"\n")[0].splitlines()
    return StepMetrics(**json.loads(lines[-1])) if lines else None


def progress_line(metrics: StepMetrics, num_steps: int, batch_size: int) -> str:
    """One line for people: where a stage stands and how long it will take."""
    left_s = (num_steps - metrics.step) * batch_size / metrics.samples_per_s
    return (
        f"step {metrics.step}/{num_steps}  loss {metrics.loss:.4f}  lr {metrics.lr:.1e}  "
        f"grad norm {metrics.grad_norm:.2f}  {metrics.samples_per_s:.0f} samples/s  {left_s:.0f} s left"
    )
