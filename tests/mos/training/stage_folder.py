"""A stage's folder with checkpoints in it, and what can be seen there."""

from pathlib import Path

from mos.training.checkpoint_format import TrainState, step_folders
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from tests.mos.training.tiny import tiny_engine, tiny_stage


def saved(folder: Path, *steps: int, keep: int = 2, first_step: int = 0) -> None:
    """Checkpoints of untrained weights."""
    engine = tiny_engine(tiny_stage())
    ema = Ema(engine.weights(), 0.9)
    checkpoints = Checkpoints(folder, {"run": "test"}, keep=keep, first_step=first_step)
    for step in steps:
        checkpoints.save(engine, ema, TrainState(step))
    checkpoints.finish()


def names(folder: Path) -> list[str]:
    return [path.name for path in step_folders(folder)]


def change_byte(path: Path, place: int = -1000) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
