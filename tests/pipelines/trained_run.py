"""A run whose curate and encode steps are finished, over tiny tables: what a training script starts from."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from mos.model.exported import WEIGHTS
from mos.training.metrics import read_metrics
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from pipelines.train.driver import prepare
from pipelines.train.job import make_job
from pipelines.train.worker import train_worker
from tests.mos.tables.sample_tables import CHANNELS, DIM, NUM_STATES, RESOLUTION, STRIDE, make_tables
from tests.mos.training.gloo import run_ranks

MODEL = (
    f"model.latent_channels={CHANNELS}",
    "model.patch=2",
    f"model.state_dim={DIM}",
    f"model.state_layers={NUM_STATES - 1}",
    "model.dim=16",
    "model.num_blocks=2",
    "model.num_heads=2",
    "model.ffn_dim=24",
    "model.fusion.router={dim=16, num_heads=2, ffn_dim=24}",
)
STAGE = (
    'filter=""',
    "tasks=['generate']",
    "sources={}",
    "micro_batch_size=2",
    f"resolution={RESOLUTION}",
    "steps=6",
    "batch_size=8",
    "log_every=2",
    "checkpoint_every=3",
    "optimizer={lr=1e-2, final_lr=1e-3, warmup_steps=2}",
)


def stage(name: str, *overrides: str) -> tuple[str, ...]:
    """Overrides that make a stage of the demo tiny."""
    return tuple(f"{name}.{text}" for text in (*STAGE, *overrides))


def encoded_run(small_run: Callable[..., RunConfig], *overrides: str, without: tuple[str, ...] = ()) -> RunConfig:
    """The demo with a tiny model, without some stages, and with records of its first three steps."""
    config = small_run(*MODEL, *overrides).model_copy(update=dict.fromkeys(without))
    if not config.folder("tables").exists():
        config.folder("tables").mkdir(parents=True)
        config.folder("shards").mkdir()
        for name in ("pairs-0.tar", "edits-0.tar"):  # what curate would read is part of its fingerprint
            config.folder("shards", name).touch()
        tables = make_tables(config.folder("tables"))
        Run(config).step("shapes").finish({})
        Run(config).step("curate").finish({"identity": "samples", "samples": asdict(tables.samples)})
        encoded = {"states": asdict(tables.states), "latents": asdict(tables.latents)}
        tower = {"tower_id": "tower-x", "num_layers": NUM_STATES - 1, "dim": DIM, "sees_images": False}
        codec = {"codec_id": "codec-x", "channels": CHANNELS, "stride": STRIDE}
        Run(config).step("encode").finish({"identity": "encoded", **encoded, **tower, **codec})
    return config


def undisturbed(config: RunConfig, name: str, folder: Path) -> tuple[dict[str, torch.Tensor], list[tuple[int, float]]]:
    """Weights and (step, loss) of a stage trained in `folder` by plain processes, without Ray and in one go."""
    job = make_job(Run(config).step(name), Run(config))
    reference = replace(job, folder=folder)
    prepare(reference, config)
    run_ranks(train_worker, config.cluster.train.num, reference, torch.device("cpu"))
    metrics = [(line.step, line.loss) for line in read_metrics(folder)]
    return load_file(folder / "export" / WEIGHTS), metrics
