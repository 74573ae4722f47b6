"""Metrics of training: JSON lines and TensorBoard from rank 0, and a line for people made from them."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch.distributed as dist

from mos.errors import UserError
from mos.files import written_whole
from mos.training.appended import AppendedFile, line_of, read_records, records_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE = "metrics.jsonl"
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
    tokens_per_s: float = 0.0
    """Of pictures and contexts, over all ranks."""
    tflops: float = 0.0
    """Model TFLOP/s of each rank (`mos.training.utilization`)."""
    mfu: float | None = None
    """Share of what its device can do at most, in [0, 1]; None where that is not known."""
    left_out: int = 0
    """Samples of these updates that did not count, over all ranks: their latents or states are not finite."""


class MetricsWriter:
    """Appends to `metrics.jsonl` and to TensorBoard event files in one folder.

    A disk that is full does not stop who writes: lines follow when there is room, TensorBoard goes without them.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """Drop lines beyond `first_step`, which a resumed run will write again.

        Raises:
            UserError: there is no room for the lines that are there.
        """
        self._folder = folder
        path = folder / FILE
        self._lines = AppendedFile(path)
        self._board: SummaryWriter | None = None
        kept = b"".join(line_of(metrics) for metrics in read_metrics(folder) if metrics.step <= first_step)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial:
                partial.write_bytes(kept)
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error}): make room there and start again") from error
        self._open_board(first_step)

    def write(self, metrics: StepMetrics) -> None:
        """Add one line; it is on disk when this returns, if there is room."""
        self._lines.add(line_of(metrics))
        if self._board is None:
            self._open_board(metrics.step - 1)
        self._show(metrics)

    def close(self) -> None:
        """Close the event file."""
        if self._board is not None:
            with suppress(OSError):
                self._board.close()

    def _open_board(self, last_step: int) -> None:
        """A new event file, beyond whose `last_step` earlier ones do not count."""
        from torch.utils.tensorboard import SummaryWriter

        with suppress(OSError):
            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=last_step + 1)

    def _show(self, metrics: StepMetrics) -> None:
        if self._board is None:
            return
        try:
            for name, value in asdict(metrics).items():
                if name != "step" and value is not None:
                    self._board.add_scalar(f"train/{name}", value, metrics.step)
            self._board.flush()
        except OSError:  # after which it takes no more
            self._board = None


@contextmanager
def metrics_of(folder: Path, step: int) -> Iterator[Callable[[StepMetrics], None]]:
    """Writer of this rank's lines of metrics: to files on rank 0, nowhere on the others."""
    if dist.get_rank() != 0:
        yield lambda _: None
        return
    with closing(MetricsWriter(folder, step)) as writer:
        yield writer.write


def read_metrics(folder: Path) -> list[StepMetrics]:
    """All lines written so far; one that is still being written, or damaged, is left out."""
    return read_records(folder / FILE, StepMetrics)


def latest_metrics(folder: Path) -> StepMetrics | None:
    """The last complete line; reads no more than the end of the file."""
    path = folder / FILE
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = records_of(file.read().rpartition(b"\n")[0].splitlines(), StepMetrics)
    return lines[-1] if lines else None


def progress_line(metrics: StepMetrics, num_steps: int, batch_size: int) -> str:
    """One line for people: where a stage stands and how long it will take."""
    left_s = (num_steps - metrics.step) * batch_size / metrics.samples_per_s
    speed = f"{metrics.samples_per_s:.0f} samples/s"
    speed += "" if metrics.mfu is None else f"  MFU {metrics.mfu:.0%}"
    return (
        f"step {metrics.step}/{num_steps}  loss {metrics.loss:.4f}  lr {metrics.lr:.1e}  "
        f"grad norm {metrics.grad_norm:.2f}  {speed}  {left_s:.0f} s left"
    )
