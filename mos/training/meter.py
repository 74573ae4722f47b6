"""Means over the updates between two lines of metrics."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from mos.loader.batch import Batch
from mos.model.mos import ModelConfig
from mos.training.checkpoint_format import TrainState
from mos.training.goodput import Clock
from mos.training.metrics import StepMetrics
from mos.training.utilization import peak_flops, work_of


@dataclass(frozen=True)
class StepResult:
    """Loss and gradient norm of one update, from before it changed the weights."""

    loss: Float[Tensor, ""]
    """Of this rank's samples, on the device, so that the mean over the ranks is the global batch's."""
    grad_norm: Float[Tensor, ""]
    """Global L2 norm before clipping, on the device; not finite: the update was skipped."""


class Meter:
    """Times and averages updates; the loss stays on the device until a line is due."""

    def __init__(self, clock: Clock, model: ModelConfig, device: torch.device) -> None:
        """`clock` is told of the time that is spent waiting for batches; FLOPs are those of `model` on `device`."""
        self._clock, self._model = clock, model
        self._peak = peak_flops(device)
        self._clear()

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, with the time spent waiting for them on record."""
        iterator = iter(batches)
        while True:
            started = time.perf_counter()
            batch = next(iterator, None)
            waited = time.perf_counter() - started
            self._waited_s += waited
            self._clock.add("data", waited)
            if batch is None:
                return
            yield batch

    def add(self, batch: Batch, result: StepResult) -> None:
        """Count one update."""
        self._losses.append(result.loss)
        self._num_samples += len(batch)
        self._num_left_out += batch.num_left_out
        work = work_of(batch, self._model)
        self._num_tokens += work.tokens
        self._flops += work.flops
        self._latest = batch.epoch, result.grad_norm

    @property
    def has_updates(self) -> bool:
        """True if there was one since the last line."""
        return bool(self._losses)

    def line(self, state: TrainState, lr: float) -> StepMetrics:
        """The metrics since the last line. Collective: the loss is averaged over the ranks."""
        loss = torch.stack(self._losses).mean()
        mine = [self._num_samples, self._num_left_out, self._num_tokens, self._flops]
        counts = torch.tensor(mine, device=loss.device, dtype=torch.float64)
        dist.all_reduce(loss)
        dist.all_reduce(counts)
        samples, left_out, tokens, flops = counts.tolist()
        elapsed_s = time.perf_counter() - self._started
        epoch, grad_norm = self._latest
        each = flops / elapsed_s / dist.get_world_size()
        metrics = StepMetrics(
            step=state.step,
            epoch=epoch,
            loss=loss.item() / dist.get_world_size(),
            lr=lr,
            grad_norm=float(grad_norm),
            samples_per_s=samples / elapsed_s,
            data_wait=self._waited_s / elapsed_s,
            nonfinite_steps=state.nonfinite_steps,
            left_out=int(left_out),
            tokens_per_s=tokens / elapsed_s,
            tflops=each / 1e12,
            mfu=None if self._peak is None else each / self._peak,
        )
        self._clear()
        return metrics

    def _clear(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._num_samples = 0
        self._num_left_out = 0
        self._num_tokens = 0
        self._flops = 0.0
        self._waited_s = 0.0
        self._latest = (0, torch.zeros(()))
        self._started = time.perf_counter()
