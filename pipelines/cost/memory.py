"""Memory of a training worker by its parts: what is sharded, what is gathered, and what a micro batch leaves behind.

Nothing is guessed about activations: a forward and a backward pass of the stage's own model, block by block and not
compiled, run on tensors without values (`mos.peak_memory`), in a few seconds at any size.
"""

from dataclasses import astuple, dataclass

import torch

from mos.flow.loss import velocity_loss
from mos.model.context import Context, ContextLayout
from mos.model.execution import recompute_blocks
from mos.model.mos import MoS
from mos.peak_memory import peak_bytes_beside
from mos.precision import resolve_dtype, torch_dtype
from mos.tables.schema import TASK_EDIT
from mos.training.fsdp import units
from mos.training.optimizer import hidden_matrices
from pipelines.cost.figures import StageFigures, latents_shape, worker_share
from pipelines.run.config import RunConfig

MASTER_BYTES = 4
"""Of a weight, its gradient, each of its moments and its average: float32 (paper, Appendix A)."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one worker's device at the peak of a step."""

    weights: float
    """Its share, with gradients."""
    moments: float
    """Of its share, as the optimizer keeps them."""
    average: float
    """Of the weights of its share."""
    gathered: float
    """Whole units in the dtype of compute, and gradients before they are reduced: of a unit, or of the whole model
    where several micro batches are added up."""
    activations: float
    """Inputs of a micro batch, and what its forward pass keeps for the backward pass."""

    @property
    def total(self) -> float:
        """All of it."""
        return sum(astuple(self))

    @property
    def checkpoint(self) -> float:
        """Of them what a checkpoint keeps: weights without gradients, moments, average."""
        return self.weights / 2 + self.moments + self.average


def training_memory(config: RunConfig, name: str, figures: StageFigures) -> TrainingMemory:
    """Of one stage, on square pictures and contexts of the mean length."""
    stage, workers = config.stage(name), config.cluster.train
    with torch.device("meta"):
        model = MoS(config.model)
    engine, num = stage.engine, sum(weight.numel() for weight in model.parameters())
    sizes = [
        sum(weight.numel() for module in unit for weight in module.parameters())
        for unit in units(model, engine.blocks_gathered)
    ]
    compute = torch_dtype(resolve_dtype(engine.precision.compute, workers.device))
    width = compute.itemsize
    rest = num - sum(sizes)
    # The unit at work and the next one on its way, or all of them; the root is never let go.
    gathered = rest + (sum(sorted(sizes)[-2:]) if engine.frees_weights else sum(sizes))
    moments = 2 * num  # Muon keeps one of its matrices
    if stage.optimizer.type == "muon":
        moments -= sum(weight.numel() for weight in hidden_matrices(model))
    reduce_width = torch_dtype(engine.precision.reduce).itemsize
    share = worker_share(config, name)
    shards = engine.num_shards(workers.num)
    adds_up = engine.adds_up_whole_gradients(in_parts=(stage.micro_batch_size or share) < share)
    reduced = max(sizes) * width + (num if adds_up else max(sizes)) * reduce_width
    return TrainingMemory(
        weights=2 * MASTER_BYTES * num / shards,
        moments=MASTER_BYTES * moments / shards,
        average=MASTER_BYTES * num / shards,
        gathered=width * gathered + reduced,
        activations=activation_bytes(config, name, round(figures.contexts.tokens.mean), compute),
    )


def activation_bytes(config: RunConfig, name: str, tokens: int, compute: torch.dtype) -> int:
    """Bytes that the forward and backward pass of a micro batch hold at most, weights and their gradients apart.

    Args:
        config: the run.
        name: of the stage.
        tokens: of every context.
        compute: dtype of the gathered weights.
    """
    stage, model = config.stage(name), config.model
    share = worker_share(config, name)
    size = min(share, stage.micro_batch_size or share)
    shape = latents_shape(config, name, size)
    layout = ContextLayout.of(torch.arange(size + 1) * max(1, tokens))

    def make() -> MoS:
        tower = MoS(model)
        for weight in tower.parameters():
            weight.data = weight.data.to(compute)
            weight.grad = torch.empty_like(weight)
        if stage.activation_checkpointing:
            recompute_blocks(tower)
        return tower

    def step(tower: MoS) -> None:
        states = torch.empty(size * max(1, tokens), model.state_layers + 1, model.state_dim, dtype=torch.bfloat16)
        z_t, target = torch.empty(shape), torch.empty(shape)
        reference = torch.empty(shape) if TASK_EDIT in stage.tasks else None
        predicted = tower(z_t, torch.empty(size), Context(states, layout), reference=reference)
        velocity_loss(predicted, target).sum().backward()

    return peak_bytes_beside(make, step)
