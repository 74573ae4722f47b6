"""How a gang is interrupted: nine ways, each at a drawn update, on a drawn rank, a drawn moment later."""

import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, get_args

from mos.training.checkpoint_format import is_complete, step_folders
from mos.training.checkpoints import Checkpoints

Kind = Literal[
    "a rank is killed",
    "the gang is killed",
    "a rank is killed in a checkpoint",
    "a rank is killed as a checkpoint becomes complete",
    "a rank fails",
    "a rank hangs",
    "the newest checkpoint is damaged",
    "a rank's disk is full",
    "the gang is told to stop",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
ENTERED: dict[Kind, str] = {
    "a rank is killed in a checkpoint": "save",
    "a rank is killed as a checkpoint becomes complete": "_commit",
}
"""Methods of `Checkpoints` that are entered just before."""
NEEDS_ANOTHER: tuple[Kind, ...] = ("a rank hangs",)
"""Kinds that another rank has to notice."""
FILE_BYTES = 4096
"""Longest file on a full disk: notices and metrics fit, shards do not."""


@dataclass(frozen=True)
class Interruption:
    """What happens to one attempt of a gang."""

    kind: Kind
    rank: int
    """The one that it happens to."""
    after: int
    """Updates of this attempt, or checkpoints for the kinds in `ENTERED`, that come first."""
    delay_s: float
    """From there to the signal."""
    draw: float
    """In [0, 1): which file is damaged, where and how."""

    @property
    def is_warned(self) -> bool:
        """Whether the gang may leave in order."""
        return self.kind == "the gang is told to stop"


def draw_interruption(draws: random.Random, kinds: Sequence[Kind], num_ranks: int, num_updates: int) -> Interruption:
    """One of the kinds, within the next updates."""
    kind = draws.choice([kind for kind in kinds if num_ranks > 1 or kind not in NEEDS_ANOTHER])
    rank = 0 if kind == "a rank is killed as a checkpoint becomes complete" else draws.randrange(num_ranks)
    after = draws.randint(0, 1) if kind in ENTERED else draws.randint(1, num_updates)
    return Interruption(kind, rank, after, draws.random() * 0.03, draws.random())


def arm(interruption: Interruption, rank: int, parent: Connection) -> None:
    """In the process of a rank, before it trains: tell the parent when a point in a checkpoint is entered."""
    name = ENTERED.get(interruption.kind)
    if name is None or rank != interruption.rank:
        return
    original = getattr(Checkpoints, name)
    entries = 0

    @wraps(original)
    def entered(*args: Any, **kwargs: Any) -> Any:
        nonlocal entries
        if entries == interruption.after:
            parent.send("here")
        entries += 1
        return original(*args, **kwargs)

    setattr(Checkpoints, name, entered)


def updated(interruption: Interruption, rank: int, num_updates: int, parent: Connection) -> None:
    """In the process of a rank, after each of its updates: what it does to itself, and when its parent is told."""
    if interruption.kind in ENTERED or rank != interruption.rank or num_updates != interruption.after:
        return
    if interruption.kind == "a rank fails":
        raise OSError("the disk does not answer")
    if interruption.kind == "a rank's disk is full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        return
    parent.send("here")


def strike(interruption: Interruption, processes: Sequence[int], stage: Path) -> None:
    """In the parent, when it is told: signals to the processes of the ranks, or a request in the stage's folder."""
    time.sleep(interruption.delay_s)
    match interruption.kind:
        case "the gang is told to stop":
            (stage / "stop").touch()
        case "the gang is killed" | "the newest checkpoint is damaged":
            for process in processes:
                os.kill(process, signal.SIGKILL)
        case "a rank hangs":
            os.kill(processes[interruption.rank], signal.SIGSTOP)
        case _:
            os.kill(processes[interruption.rank], signal.SIGKILL)


def damage_newest(stage: Path, draw: float) -> bool:
    """Flip a byte of a file of the newest checkpoint, cut it short or remove it; False where none is to be had.

    The only checkpoint stays whole: without any, training would rightly begin anew, which shows nothing.
    """
    complete = [folder for folder in step_folders(stage) if is_complete(folder)]
    if len(complete) < 2:
        return False
    draws = random.Random(draw)
    newest = complete[-1]
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    path = draws.choice([path for path in files if path.stat().st_size])
    match draws.choice(("flip", "cut", "remove", "lose shards")):
        case "flip":
            content = bytearray(path.read_bytes())
            content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
            path.write_bytes(content)
        case "cut":
            os.truncate(path, draws.randrange(path.stat().st_size))
        case "remove":
            path.unlink()
        case _:
            shutil.rmtree(newest / "shards")
    return True
