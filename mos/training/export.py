"""The deliverable of a stage: EMA weights in safetensors and the configs that give them meaning, in one folder.

Weights are every parameter of a plain `mos.model.mos.MoS`, in float32; `mos.model.exported` is the layout.
"""

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from mos.errors import UserError
from mos.model.exported import WEIGHTS, layout_of
from mos.training.agreement import from_rank_0
from mos.training.ema import Ema
from mos.training.engine import Engine


def write_export(folder: Path, engine: Engine, ema: Ema, config: dict[str, Any]) -> None:
    """Write the export; rank 0 writes, in one rename. Collective.

    Names and dtype do not depend on the engine or on the number of ranks that trained.

    Raises:
        UserError: there is no room for it, or the storage fails.
    """
    weights = engine.gather(ema.average)
    try:
        failure = _write(folder, engine.shapes, weights, config) if dist.get_rank() == 0 else None
    finally:
        for _ in weights:  # what is left where a disk was full: gathering is collective
            pass
    failure = from_rank_0(lambda: failure)
    if failure is not None:
        raise UserError(
            f"the export {folder} could not be written ({failure}): make room there and start the stage again, "
            "which is trained to its end"
        )


def write_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]], weights: Iterable[tuple[str, Tensor]]) -> None:
    """Write tensors as they come, each in float32 and one in memory at a time: the package's own writer takes all.

    Args:
        path: of the file.
        shapes: of every tensor, in the order in which they come.
        weights: names and tensors, on the CPU.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for expected, (name, weight) in zip(shapes, weights, strict=True):
            if name != expected or tuple(weight.shape) != shapes[name]:
                raise ValueError(f"{name} {tuple(weight.shape)} came where {expected} {shapes[expected]} was to come")
            file.write(weight.detach().float().contiguous().numpy().data)
            del weight  # or it would be held while the next one comes


def _write(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], weights: Iterable[tuple[str, Tensor]], config: dict[str, Any]
) -> str | None:
    """Error that kept the files from being written, of which then nothing is left; or None."""
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, content in layout_of(config).items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
        write_safetensors(partial / WEIGHTS, shapes, weights)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        return str(error)
    return None
