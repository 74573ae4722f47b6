"""AdamW and its learning-rate schedule, as in Appendix A of the paper."""

import math
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import nn

from mos.config import StrictConfig


class OptimizerConfig(StrictConfig):
    """AdamW with a linear warm-up and a cosine decay to a floor; the defaults are the paper's."""

    lr: float = Field(1e-4, gt=0)
    """Learning rate at the end of the warm-up."""
    final_lr: float = Field(1.5e-5, ge=0)
    """Learning rate at the last step of the stage; at most `lr`."""
    warmup_steps: int = Field(4000, ge=0)
    """Steps over which the rate rises linearly from `lr / warmup_steps` to `lr`."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the first and second moment."""
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
    """Rate of update `step` (0-based) in a stage of `num_steps` updates.

    Rises linearly to `config.lr` at step `warmup_steps - 1`, then follows half a cosine that reaches
    `config.final_lr` at the last step. A warm-up longer than the stage just ends where the stage does.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    decay_steps = num_steps - 1 - config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / decay_steps) if decay_steps > 0 else 1.0
    return config.final_lr + (config.lr - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.AdamW:
    """AdamW over fp32 master weights; sharded parameters give sharded moments."""
    matrices = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p in matrices], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p not in matrices], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=True
    )
