#!/usr/bin/env python3
"""Editing stage: learn to follow an instruction on a reference picture.

The clean latents of the reference join those of the target in the generation tower (paper section 3.4).

Reads   tables/samples.lance, tables/states/<tower>.lance, tables/latents/<codec>.lance, at recorded versions
        the final checkpoint of the last text-to-image stage
Writes  <root>/checkpoints/edit/<fingerprint>/
          step-*/          sharded checkpoints, from which an interrupted run goes on
          metrics.jsonl    loss, learning rate, gradient norm, samples/s; tensorboard/ has the same
          samples/*.png    pictures drawn on the way, if [edit] has sample_every
          export/          EMA weights as a pipeline of diffusers, for sampling

  python pipelines/edit.py
  python pipelines/edit.py pipelines/configs/demo.toml steps=100 optimizer.lr=1e-3 cluster.train.num=2
  ray job submit --working-dir . -- pipelines/edit.py
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="edit")

from pipelines.train.driver import train_stage

if __name__ == "__main__":
    COMMAND.run(partial(train_stage, "edit"))
