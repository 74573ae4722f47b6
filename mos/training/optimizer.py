"""AdamW and its learning-rate schedule, as in Appendix A of the paper; or Muon for the matrices."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mos.config import StrictConfig
from mos.training.muon import Muon


class OptimizerConfig(StrictConfig):
    """AdamW with a linear warm-up and a cosine decay to a floor; the defaults are the paper's."""

    type: Literal["adamw", "muon"] = "adamw"
    """`adamw` is the paper's. `muon`: matrices between hidden widths take orthogonal steps (`mos.training.muon`) at the
    same rate; embeddings, heads, norms, biases and learned tokens are left to AdamW."""
    lr: float = Field(1e-4, gt=0)
    """Learning rate at the end of the warm-up."""
    final_lr: float = Field(1.5e-5, ge=0)
    """Learning rate at the end of the decay, and after it; at most `lr`."""
    warmup_steps: int = Field(4000, ge=0)
    """Steps over which the rate rises linearly from `lr / warmup_steps` to `lr`."""
    decay_steps: int | None = Field(None, gt=0)
    """Steps until the rate has fallen to `final_lr`, the warm-up among them; None: as many as the stage had when it
    began. A stage that is lengthened goes on at `final_lr`."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the first and second moment."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Decay of Muon's momentum."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled decay of the weights of linear layers; norm scales, biases and learned tokens are not decayed."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest global L2 norm of the gradient; larger ones are scaled down to it."""

    @model_validator(mode="after")
    def _decays(self) -> Self:
        if self.final_lr > self.lr:
            raise ValueError(f"final_lr = {self.final_lr:g} exceeds lr = {self.lr:g}: lower it, the rate decays")
        return self


def learning_rate(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Rate of update `step` (0-based) in a stage of `num_steps` updates, or of `config.decay_steps` where that is set.

    Rises linearly to `config.lr` at step `warmup_steps - 1`, then follows half a cosine that reaches
    `config.final_lr` at the last step, and stays there. A warm-up longer than the stage just ends where the stage does.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    decay_steps = (config.decay_steps or num_steps) - 1 - config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / decay_steps) if decay_steps > 0 else 1.0
    return config.final_lr + (config.lr - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2


class Optimizers:
    """The optimizers of a model, one or two, as one."""

    def __init__(self, config: OptimizerConfig, model: nn.Module) -> None:
        """Over fp32 master weights; sharded parameters give sharded moments."""
        hidden = list(hidden_matrices(model)) if config.type == "muon" else []
        first = adamw(config, model, without=hidden)
        self.parts: tuple[torch.optim.Optimizer, ...] = (first,)
        """What steps, and what is saved and read."""
        if hidden:
            settings = {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
            self.parts = (first, Muon(hidden, **settings))

    def step(self, lr: float, norm: Tensor) -> None:
        """One update at a rate; leaves weights and moments alone where the gradients' norm is not finite."""
        skip = (~norm.isfinite()).float()
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr
            # As torch.amp's GradScaler tells fused optimizers to skip a step, without reading the number.
            part.found_inf = skip  # type: ignore[attr-defined]
            part.step()
            part.zero_grad(set_to_none=True)


def adamw(config: OptimizerConfig, model: nn.Module, without: Sequence[Tensor] = ()) -> torch.optim.AdamW:
    """AdamW over a model's weights but those left out; weights of linear layers are decayed, others are not."""
    left_out, linear = set(without), {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    trained = [weight for weight in model.parameters() if weight.requires_grad and weight not in left_out]
    groups = _groups(
        ([weight for weight in trained if weight in linear], config.weight_decay),
        ([weight for weight in trained if weight not in linear], 0.0),
    )
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def hidden_matrices(model: nn.Module) -> Iterator[Tensor]:
    """Weights of the linear layers that lead from one hidden width to another.

    Those in blocks and in the router, whose head gives logits and stays out.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.startswith(("blocks.", "router.")) and name != "router.head":
            yield module.weight


def _groups(*groups: tuple[list[nn.Parameter], float]) -> list[dict[str, object]]:
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]
