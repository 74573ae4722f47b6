"""A run whose steps up to the editing stage are finished, with tiny random models: where sample and evaluate start."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.run.config import RunConfig
from pipelines.run.steps import Run
from tests.mos.sampling.tiny_export import run_of, save_new_export

SMALL = (
    "sample.num_images=6",
    "sample.sampler.steps=2",
    "evaluate.single_object_prompts=3",
    "evaluate.prompts_per_category=1",
    "evaluate.num_edits=2",
    "evaluate.sampler.steps=2",
)


def trained_run(small_run: Callable[..., RunConfig], *overrides: str, stages: Sequence[str] | None = None) -> RunConfig:
    """The demo with records of its data steps and of its training stages, or of the first of them alone."""
    config = small_run(*SMALL, *overrides)
    config.folder("shards").mkdir(parents=True)
    for name in ("pairs-0.tar", "edits-0.tar"):  # what curate would read is part of its fingerprint
        config.folder("shards", name).touch()
    Run(config).step("shapes").finish({})
    buckets = {"32": {"32x32": 5, "24x44": 2}, "64": {"64x64": 4}}
    Run(config).step("curate").finish(
        {"read": 9, "kept": 7, "rejected": {"caption_empty": 2}, "buckets": buckets, "samples": {}}
    )
    tower = {"tower_id": "minilm-0123456789ab", "num_layers": 6}
    codec = {"codec_id": "pixel-0123456789ab", "channels": 12, "stride": 2}
    Run(config).step("encode").finish({**tower, **codec})
    for name in config.stages() if stages is None else stages:
        folder = config.folder("checkpoints", name)
        export = save_new_export(folder / "export", run=run_of(config.stage(name).resolution, config.stage(name).tasks))
        write_metrics(folder)
        Run(config).step(name).finish({"export": str(export), "folder": str(folder), "num_params": 12_345})
    return config


def write_metrics(folder: Path) -> None:
    """Three lines of metrics, as a stage writes them."""
    fixed = {"epoch": 0, "lr": 1e-3, "grad_norm": 1.0, "samples_per_s": 1.0, "data_wait": 0.0, "nonfinite_steps": 0}
    lines = [json.dumps({"step": step, "loss": 1 / step, **fixed}) for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
