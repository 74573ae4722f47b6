"""A run with real pictures and a tiny tower whose first stage is finished with random weights, ready to be measured."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from mos.encoders.load import describe_codec, describe_tower
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from tests.kills import encode_without_ray, make_run
from tests.mos.sampling.tiny_export import random_model, run_of

NUM = 26
SETTINGS = ("stage1.batch_size=2", "losses.num_timesteps=3", "losses.samples_per_part=4", "cluster.generate={num=2}")
STAGE2 = "stage2={resolution=32, steps=2, batch_size=2, log_every=1, start={type='new'}, filter='%s'}"


def measured_config(folder: Path, *overrides: str, num: int = NUM) -> RunConfig:
    """Curated and encoded, with stage1 finished."""
    config = load_run(make_run(folder, num), (*SETTINGS, *overrides))
    finish_encode(config)
    finish_stage(config, "stage1")
    return config


def finish_encode(config: RunConfig) -> None:
    """The encode step without Ray."""
    states, latents = encode_without_ray(config, 16)
    tables = {"states": asdict(states), "latents": asdict(latents)}
    spec = asdict(describe_tower(config.encode.tower)) | asdict(describe_codec(config.encode.vae))
    Run(config).step("encode").finish({"identity": "encoded", **tables, **spec})


def finish_stage(config: RunConfig, name: str, *, seed: int = 0, **outputs: object) -> None:
    """A stage whose export has random weights."""
    folder = config.folder("checkpoints", name, f"weights-{seed}")
    export = folder / "export"
    export.mkdir(parents=True)
    save_file(random_model(config.model, seed).state_dict(), export / "model.safetensors")
    about = {
        "model": config.model.model_dump(mode="json"),
        "tower": {"type": "minilm"},
        "vae": {"type": "pixel"},
        "run": run_of(config.stage(name).resolution),
    }
    (export / "config.json").write_text(json.dumps(about), encoding="utf-8")
    Run(config).step(name).finish({"export": str(export), "folder": str(folder), "num_params": 1, **outputs})
