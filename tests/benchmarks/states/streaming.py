"""A streaming stage beside the same stage from a finished table: how long the trainer waits, how idle producers are.

    python -m tests.benchmarks.states.streaming

The demo's first stage, shortened: its model, its MiniLM tower, two training workers and one or two producers, which
share the machine's cores with them. A lead of 16 MB holds a few windows of 5 steps, so producers have to pause. Waiting
is counted after the first window.
"""

import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from cluster.session import ray_session
from mos.training.metrics import read_metrics
from pipelines import curate, encode, shapes
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from pipelines.train.driver import train_stage
from pipelines.train.producer_stats import stall_share
from tests.benchmarks.harness import CLONE, Row, write_results

STEPS, WINDOW, REPEATS = 120, 5, 3
BASE = (f"stage1.steps={STEPS}", "shapes.num_scenes=2000", "shapes.num_edits=10", "cluster.num_cpus=4")
STREAMED = f"stage1.states={{type='stream', window_steps={WINDOW}, lead_mb=16, producers={{max=2}}}}"
FIRST = Namespace(force=False, dry_run=False)
AGAIN = Namespace(force=True)


def streaming_rows() -> list[Row]:
    """All figures of this file: medians of interleaved runs of the stage."""
    with tempfile.TemporaryDirectory() as folder:
        streamed, cached = (demo(Path(folder), *overrides) for overrides in ((STREAMED,), ()))
        for step in (shapes, curate, encode):
            step.main(Run(streamed), FIRST)
        encode.main(Run(cached), FIRST)
        runs: dict[str, list[dict[str, Any]]] = {"stream": [], "cache": []}
        with ray_session(streamed.cluster):
            for _ in range(REPEATS):
                runs["stream"].append(run_stage(streamed))
                runs["cache"].append(run_stage(cached))
    stall, idle, speed = (median(runs["stream"], name) for name in ("stall", "idle", "speed"))
    cached_stall, cached_speed = (median(runs["cache"], name) for name in ("stall", "speed"))
    encoded = median(runs["stream"], "encoded")
    return [
        Row("stream.stall", stall, "share of the time", "mark", 0.05, 0.05 / max(stall, 1e-9), REPEATS),
        Row("stream.stall.cache", stall, "share of the time", "from a table", cached_stall, None, REPEATS),
        Row("stream.idle", idle, "share of the producers' time", repeats=REPEATS),
        Row("stream.speed", speed, "samples/s", "from a table", cached_speed, speed / cached_speed, REPEATS),
        Row("stream.encoded", encoded, f"contexts encoded in {STEPS} steps", repeats=REPEATS),
    ]


def demo(folder: Path, *overrides: str) -> RunConfig:
    """The demo with its first stage alone."""
    config = load_run(CLONE / "pipelines/configs/demo.toml", (f"root={folder / 'run'}", *BASE, *overrides))
    return config.model_copy(update=dict.fromkeys(("stage2", "stage3", "stage4", "edit")))


def run_stage(config: RunConfig) -> dict[str, Any]:
    """Train the stage anew and say how it went after its first window."""
    train_stage("stage1", Run(config), AGAIN)
    outputs = Run(config).require("stage1").outputs
    lines = read_metrics(Path(outputs["folder"]))
    late = [line for line in lines if line.step > WINDOW]
    batch = config.stage("stage1").batch_size
    seconds = sum(batch * config.stage("stage1").log_every / line.samples_per_s for line in late)
    balance = outputs.get("balance", {})
    return {
        "stall": stall_share(lines, batch, WINDOW),
        "idle": balance.get("producer_idle", 0.0),
        "encoded": balance.get("contexts_encoded", 0),
        "speed": batch * config.stage("stage1").log_every * len(late) / seconds,
    }


def median(runs: list[dict[str, Any]], name: str) -> float:
    """Of one figure over the repeats."""
    return float(sorted(run[name] for run in runs)[len(runs) // 2])


if __name__ == "__main__":
    write_results("states", streaming_rows())
