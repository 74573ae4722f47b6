#!/usr/bin/env python3
"""Codec: kept samples -> an autoencoder of diffusers trained on their pictures, for `encode.vae` to name.

A step of runs with a [codec] section, between curate and encode. The demo has none: a codec ships with it.

Reads   tables/samples.lance, at the version the curate step recorded
Writes  <root>/codec/<fingerprint>/
          checkpoint.pt           from which an interrupted run goes on
          metrics.jsonl           loss, learning rate, pictures/s; tensorboard/ has the same
          export/                 config.json and safetensors: vae = { type = "diffusers", path = ".../export" }
          report.json             PSNR on held-out pictures, parameters, bytes
          reconstructions.png     held-out pictures, each beside what comes back

  python pipelines/codec.py my.toml codec.steps=2000
  ray job submit --working-dir . -- pipelines/codec.py my.toml
"""

import json
import shutil
import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="codec")

from cluster.session import ray_session
from cluster.train import run_workers
from mos.autoencoder.train import CodecJob, train_codec
from mos.errors import UserError
from mos.tables.lance import TableVersion
from mos.training.metrics import latest_metrics
from pipelines.run.steps import Run
from pipelines.train.lock import stage_lock
from pipelines.train.show_progress import shown_progress
from pipelines.train.stopping import stopping_in_order


def main(run: Run, args: Namespace) -> None:
    """Train the codec unless it is on record, from the checkpoint of an interrupted run where there is one."""
    config, step = run.config, run.step("codec")
    folder = config.folder("codec", step.short)
    with stage_lock(folder):
        if step.already_finished(args.force):
            return
        if args.force:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        codec, gang = config.codec, config.cluster.train.model_copy(update={"max_num": None})
        assert codec is not None, "step() asks for the section"
        if codec.batch_size % gang.num:  # its ranks average what each of them has summed
            raise UserError(
                f"codec.batch_size = {codec.batch_size} is not a multiple of cluster.train.num = {gang.num}: set it to "
                f"{-(-codec.batch_size // gang.num) * gang.num}"
            )
        samples = TableVersion(**run.require("curate").outputs["samples"])
        job = CodecJob(codec, config.seed, samples, config.curate.image, folder)
        print(f"codec: {codec.total_steps} steps of {codec.batch_size} pictures at {codec.resolution} px", flush=True)
        with (
            ray_session(config.cluster),
            stopping_in_order("codec", folder),
            shown_progress("codec", folder, codec.total_steps, codec.batch_size),
        ):
            run_workers(train_codec, job, gang, folder=folder / "ray", max_failures=config.cluster.max_failures)
        latest = latest_metrics(folder)
        if latest is None or latest.step < codec.total_steps:
            print(
                f"codec: stopped at step {latest.step if latest else 0} of {codec.total_steps}; run it again to go on"
            )
            raise KeyboardInterrupt
        figures = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        step.finish({"export": str(folder / "export"), "folder": str(folder), **figures})
    print(
        f"codec: {figures['psnr_db']:.1f} dB on {figures['pictures']} held-out pictures (worst "
        f"{figures['psnr_db_worst']:.1f}), {figures['num_params'] / 1e6:.2f}M parameters in {folder / 'export'}",
        flush=True,
    )


if __name__ == "__main__":
    COMMAND.run(main)
