"""A tiny model, stage and batches for training tests."""

import torch

from mos.loader.batch import Batch
from mos.loader.builder import Share
from mos.loader.randomness import ExplorationRule, SampleKey, draw_noise, draw_uniform
from mos.model.context import Context
from mos.model.fusion import RoutedFusion
from mos.model.mos import ModelConfig, MoS
from mos.model.router import RouterConfig
from mos.model.routing import Exploration
from mos.training.engine import Engine, build_engine
from mos.training.optimizer import OptimizerConfig
from mos.training.precision import PrecisionConfig
from mos.training.sharding import Fsdp2Config
from mos.training.stage import StageConfig

MODEL = ModelConfig(
    latent_channels=4,
    patch=2,
    state_dim=12,
    state_layers=3,
    dim=16,
    num_blocks=2,
    num_heads=2,
    ffn_dim=24,
    fusion=RoutedFusion(router=RouterConfig(dim=16, num_heads=2, ffn_dim=24)),
)
FLOAT32 = Fsdp2Config(precision=PrecisionConfig(compute="float32"))
OPTIMIZER = OptimizerConfig(lr=1e-2, final_lr=1e-3, warmup_steps=2)


def tiny_stage(**options) -> StageConfig:
    values = {"resolution": 16, "steps": 6, "batch_size": 8, "engine": FLOAT32, "optimizer": OPTIMIZER, "log_every": 1}
    return StageConfig(**(values | options))


def tiny_model() -> MoS:
    model = MoS(MODEL)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


def tiny_engine(stage: StageConfig) -> Engine:
    return build_engine(
        stage.engine, stage.optimizer, tiny_model(), torch.device("cpu"), recompute=stage.activation_checkpointing
    )


def tiny_batch(step: int, rank: int = 0, world_size: int = 1, batch_size: int = 8) -> Batch:
    """One rank's share of a global batch that does not depend on the world size."""
    keys = [SampleKey(0, 0, step * batch_size + position) for position in Share(rank, world_size).columns(batch_size)]
    rule = ExplorationRule(num_blocks=2, num_layers=3, top_k=2, epsilon=0.5)
    noise = torch.stack([draw_noise(key, (4, 4, 6)) for key in keys])
    lengths = [2 + key.position % 4 for key in keys]
    states = [torch.from_numpy(key.stream(0).standard_normal((n, 4, 12))) for key, n in zip(keys, lengths, strict=True)]
    draws = [rule.draw(key, length) for key, length in zip(keys, lengths, strict=True)]
    pad = torch.nn.utils.rnn.pad_sequence
    return Batch(
        epoch=0,
        step=step,
        latents=noise.flip(-1) * 0.5 + 1.0,
        noise=noise,
        timesteps=torch.tensor([draw_uniform(key) for key in keys]),
        # Values that bf16 has, mixed in float32: bf16 states round S_j to 8 bits, where a last bit of a weight, which
        # differs between one rank and two, turns into a difference of 1e-3 in the gradient.
        context=Context.of([sample.bfloat16().float() for sample in states]),
        exploration=Exploration(
            pad([d[0] for d in draws], batch_first=True), pad([d[1] for d in draws], batch_first=True)
        ),
    )
