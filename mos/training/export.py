"""The deliverable of a stage: EMA weights in safetensors and the configs that give them meaning, in one folder.

export/model.safetensors   every parameter of a plain `mos.model.mos.MoS`, float32
export/config.json         read by mos.sampling.export
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mos.errors import UserError
from mos.training.agreement import from_rank_0
from mos.training.ema import Ema
from mos.training.engine import Engine


def write_export(folder: Path, engine: Engine, ema: Ema, config: dict[str, Any]) -> None:
    """Write the export; rank 0 writes, in one rename. Collective.

    Names and dtype do not depend on the engine or on the number of ranks that trained.

    Raises:
        UserError: there is no room for it, or the storage fails.
    """
    weights = {name: tensor.contiguous() for name, tensor in engine.gather(ema.average)}
    failure = from_rank_0(lambda: _write(folder, weights, config))
    if failure is not None:
        raise UserError(
            f"the export {folder} could not be written ({failure}): make room there and start the stage again, "
            "which is trained to its end"
        )


def _write(folder: Path, weights: dict[str, Tensor], config: dict[str, Any]) -> str | None:
    """Error that kept the files from being written, of which then nothing is left; or None."""
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        (partial / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        return str(error)
    return None
