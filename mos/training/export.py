"""The deliverable of a stage: EMA weights in safetensors and the configs that give them meaning, in one folder.

export/model.safetensors   every parameter of a plain `mos.model.mos.MoS`, float32
export/config.json         read by mos.sampling.export
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors.torch import save_file

from mos.training.ema import Ema
from mos.training.engine import Engine


def write_export(folder: Path, engine: Engine, ema: Ema, config: dict[str, Any]) -> None:
    """Write the export; rank 0 writes, in one rename. Collective.

    Names and dtype do not depend on the engine or on the number of ranks that trained.
    """
    weights = {name: tensor.contiguous() for name, tensor in engine.gather(ema.average)}
    if dist.get_rank() == 0:
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        (partial / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    dist.barrier()
