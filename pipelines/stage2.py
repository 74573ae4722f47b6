#!/usr/bin/env python3
"""Stage 2: go on at higher resolution.

Mode-sampled timesteps, shifted towards noise; the view of stage 1 (paper section 3.5).

Reads   tables/samples.lance, tables/states/<tower>.lance, tables/latents/<codec>.lance, at recorded versions
        the final checkpoint of stage 1
Writes  <root>/checkpoints/stage2/<fingerprint>/
          step-*/          sharded checkpoints, from which an interrupted run goes on
          metrics.jsonl    loss, learning rate, gradient norm, samples/s; tensorboard/ has the same
          samples/*.png    pictures drawn on the way, if [stage2] has sample_every
          export/          EMA weights as a pipeline of diffusers, for sampling

  python pipelines/stage2.py
  python pipelines/stage2.py pipelines/configs/demo.toml steps=100 optimizer.lr=1e-3 cluster.train.num=2
  ray job submit --working-dir . -- pipelines/stage2.py
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="stage2")

from pipelines.train.driver import train_stage

if __name__ == "__main__":
    COMMAND.run(partial(train_stage, "stage2"))
