"""Weights of an export or a checkpoint into a sharded model: checked first, then read, every rank its own rows."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from mos.errors import UserError
from mos.model.exported import model_tree, weight_files
from mos.model.mos import ModelConfig, MoS
from mos.training.checkpoint import Checkpoint, open_checkpoint
from mos.training.checkpoint_format import UnusableCheckpointError
from mos.training.ema import Ema
from mos.training.engine import Engine
from mos.training.optimizer import OptimizerConfig
from mos.training.start import GivenWeights

SHOWN = 3
"""Weights that a sentence names."""


def check_fit(start: GivenWeights, model: ModelConfig, optimizer: OptimizerConfig) -> None:
    """Make sure that given weights are those of a model of this shape, as far as they have to be, and that the state of
    their optimizer, where it is taken, is that of this one.

    Raises:
        UserError: they are not, or cannot be read.
    """
    theirs, ours = shapes(_model_of(start)), shapes(model)
    differing = [name for name in (*ours, *(theirs.keys() - ours.keys())) if theirs.get(name) != ours.get(name)]
    fits = any(theirs.get(name) == shape for name, shape in ours.items())
    if start.partial and start.is_checkpoint:
        raise UserError(f"start.partial takes an export, and {start.path!r} is a checkpoint: name an export")
    if start.optimizer:
        _check_optimizer(start, optimizer)
    if not differing or (start.partial and fits):
        return
    shown = ", ".join(
        f"{name} is {_shape(theirs.get(name))} there and {_shape(ours.get(name))} here" for name in differing[:SHOWN]
    )
    more = f", and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    remedy = "name other weights" if start.partial else "use its [model], or set start.partial = true for an export"
    raise UserError(f"start.path = {start.path!r} holds another model ({shown}{more}): {remedy}")


def _check_optimizer(start: GivenWeights, optimizer: OptimizerConfig) -> None:
    if not start.is_checkpoint:
        raise UserError(
            f"start.optimizer = true, but {start.path!r} is an export, which has no state of an optimizer: name a "
            "checkpoint, or set start.optimizer = false"
        )
    theirs = Checkpoint.read(start.folder).provenance["config"]["optimizer"]["type"]
    if theirs != optimizer.type:
        raise UserError(
            f"start.optimizer = true, but the state in {start.path!r} is of {theirs} and the stage trains with "
            f"{optimizer.type}: set optimizer.type = {theirs!r}, or start.optimizer = false"
        )


def shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a model."""
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in MoS(model).named_parameters()}


def load_export(start: GivenWeights, engine: Engine) -> list[str]:
    """Write an export's weights into the engine's, every rank its own shards; returns the names that it has none for.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return engine.fill(_slices(weight_files(start.folder), engine.shapes))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"weights of {start.folder} cannot be read ({error}): name another export") from error


def _slices(files: list[Path], wanted: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, Any]]:
    """Names and unread values of the weights in files that are wanted in that shape."""
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                if name in wanted and _fits(value := file.get_slice(name), wanted[name]):
                    yield name, value


def load_checkpoint(start: GivenWeights, engine: Engine, ema: Ema) -> None:
    """Write a checkpoint's weights into the engine's and its average into `ema`, with the state of its optimizer where
    that is asked for. Collective.

    Raises:
        UserError: it is damaged.
    """
    open_checkpoint(start.folder).restore(engine, ema, optimizer=start.optimizer)
    if start.average:
        for name, weight in engine.weights().items():
            weight.copy_(ema.average[name])
        engine.sync()
        ema.num_updates = 0


def _model_of(start: GivenWeights) -> ModelConfig:
    try:
        if start.is_checkpoint:
            return ModelConfig.model_validate(Checkpoint.read(start.folder).provenance["model"])
        return ModelConfig.model_validate(model_tree(start.folder))
    except (OSError, ValueError, KeyError, ValidationError, UnusableCheckpointError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"start.path = {start.path!r} cannot be read ({reason}): name another one") from error


def _fits(value: Any, shape: tuple[int, ...]) -> bool:
    return tuple(value.get_shape()) == shape


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape))
