"""The one interface between the training loop and whoever shards the model."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mos.model.mos import MoS
from mos.training.checksums import Checksum
from mos.training.fsdp import Fsdp2Engine
from mos.training.optimizer import OptimizerConfig
from mos.training.sharding import EngineConfig, Fsdp2Config, ZeroConfig
from mos.training.zero import ZeroEngine

NamedTensors = dict[str, Tensor]
"""Tensors by parameter name; what a tensor holds (a shard, the whole) is the engine's own affair."""


class Engine(Protocol):
    """A sharded model with its optimizer. Every method is collective: all ranks call it, in the same order."""

    device: torch.device
    """Where batches go."""
    model: MoS
    """The model to call; computes in the configured precision."""
    shapes: dict[str, tuple[int, ...]]
    """Of the whole weights, by name."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradients of one micro batch; at the `last` one of an update they are averaged over the ranks."""
        ...

    def step(self, lr: float) -> Tensor:
        """Clip, update and clear the gradients; returns their global norm before clipping, on the device.

        A norm that is not finite is returned too, and then no weight has changed. FSDP2 never waits for the device.
        """
        ...

    def weights(self) -> NamedTensors:
        """This rank's live fp32 master weights; what is written to them is the model's after `sync`."""
        ...

    def sync(self) -> None:
        """Make what was written to `weights` count: the model computes with it from here on."""
        ...

    def fill(self, values: Iterable[tuple[str, Any]]) -> list[str]:
        """Set weights to values, which come one after the other; every rank keeps its own part of each.

        Args:
            values: names, and whole tensors or slices of a safetensors file, which are read in rows.

        Returns:
            Names of the weights that got none and are as they were.
        """
        ...

    def gather(self, tensors: NamedTensors) -> Iterator[tuple[str, Tensor]]:
        """Whole tensors of the layout of `weights`, one after the other, on the CPU of rank 0 (others get none)."""
        ...

    def save(self, folder: Path, ema: NamedTensors, *, background: bool) -> Future[dict[str, Checksum]]:
        """Write model, optimizer and EMA, every rank its own shards; done at once unless in the background.

        The result is, on rank 0, the checksum of every rank's files by name. What failed on one rank fails on all.
        """
        ...

    def load(self, folder: Path, ema: NamedTensors, *, optimizer: bool) -> None:
        """Read what `save` of any engine wrote, at any world size.

        Args:
            folder: of the shards.
            ema: of the layout of `weights`; its tensors are written to.
            optimizer: whether the optimizer's state is read, too.
        """
        ...


def build_engine(
    config: EngineConfig, optimizer: OptimizerConfig, model: MoS, device: torch.device, *, recompute: bool
) -> Engine:
    """Shard a model over all ranks of the default process group.

    Args:
        config: which engine, and its settings.
        optimizer: settings of AdamW.
        model: the whole model, the same weights on every rank, or on the meta device: no rank then ever holds more
            than its shards, which `Engine.fill` gives values. Its `blocks` and `router` are the units of sharding.
        device: this rank's device.
        recompute: activation checkpointing of every block.
    """
    match config:
        case Fsdp2Config():
            return Fsdp2Engine(config, optimizer, model, device, recompute=recompute)
        case ZeroConfig():
            return ZeroEngine(config, optimizer, model, device, recompute=recompute)
