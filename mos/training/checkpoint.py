"""Sharded checkpoints in a folder: complete or invisible, the newest found again, old ones removed.

    step-000000123/
        shards/         written by every rank (torch.distributed.checkpoint): model, optimizer, EMA
        state.json      counters, resolved config, table versions
        COMPLETE.json   size of every file; written last, in one rename: without it the folder does not count

A checkpoint folder is trusted input: torch.distributed.checkpoint reads its metadata with pickle.
"""

import json
import shutil
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from mos.training.ema import Ema
from mos.training.engine import Engine

MARKER = "COMPLETE.json"


@dataclass(frozen=True)
class TrainState:
    """Counters of a stage; with the weights, all that a resumed run needs."""

    step: int = 0
    """Batches consumed."""
    nonfinite_steps: int = 0
    """Updates skipped for a non-finite gradient."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    state: TrainState
    ema_updates: int
    provenance: dict[str, Any]
    """Resolved config, table versions: whatever the stage recorded."""

    @classmethod
    def read(cls, path: Path) -> "Checkpoint | None":
        """The checkpoint in a folder, or None unless it is complete and every file still has its size."""
        try:
            sizes = json.loads((path / MARKER).read_text(encoding="utf-8"))
            if any((path / name).stat().st_size != size for name, size in sizes.items()):
                return None
            saved = json.loads((path / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cls(path, TrainState(**saved["state"]), saved["ema_updates"], saved["provenance"])

    def restore(self, engine: Engine, ema: Ema, *, optimizer: bool) -> None:
        """Load weights and EMA, and the optimizer for resuming the same stage, at any world size."""
        engine.load(self.path / "shards", ema.average, optimizer=optimizer)
        ema.num_updates = self.ema_updates


class Checkpoints:
    """The checkpoints of one stage. `save` and `finish` are collective; every rank has its own object."""

    def __init__(self, folder: Path, provenance: dict[str, Any], *, keep: int, background: bool = False) -> None:
        self.folder = folder
        self._provenance = provenance
        self._keep = keep
        self._background = background
        self._pending: tuple[Path, Future[None]] | None = None

    def save(self, engine: Engine, ema: Ema, state: TrainState) -> None:
        """Write one checkpoint; in the background only its copy to host memory is waited for."""
        self.finish()
        path = self.folder / f"step-{state.step:09d}"
        if dist.get_rank() == 0:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            saved = {"state": asdict(state), "ema_updates": ema.num_updates, "provenance": self._provenance}
            (path / "state.json").write_text(json.dumps(saved, indent=2), encoding="utf-8")
        dist.barrier()
        pending = engine.save(path / "shards", ema.average, background=self._background)
        if pending is None:
            self._commit(path)
        else:
            self._pending = path, pending

    def poll(self) -> None:
        """Make a background checkpoint count as soon as it is written; never waits."""
        if self._pending is not None and self._pending[1].done():
            self.finish()

    def finish(self) -> None:
        """Wait for a background checkpoint and make it count; raises what its writing raised."""
        if self._pending is not None:
            path, pending = self._pending
            self._pending = None
            pending.result()
            self._commit(path)

    def _commit(self, path: Path) -> None:
        """Rank 0's shards are done only when the last rank's are, so it needs to ask nobody."""
        if dist.get_rank() != 0:
            return
        files = sorted(file for file in path.rglob("*") if file.is_file())
        sizes = {str(file.relative_to(path)): file.stat().st_size for file in files}
        partial = path / f".{MARKER}.partial"
        partial.write_text(json.dumps(sizes, indent=2), encoding="utf-8")
        partial.replace(path / MARKER)
        self._prune(path)

    def _prune(self, newest: Path) -> None:
        """Remove what is older than the newest `keep` complete checkpoints, and unfinished leftovers."""
        complete = [folder for folder in step_folders(self.folder) if (folder / MARKER).is_file()]
        kept = complete[-self._keep :]
        for folder in step_folders(self.folder):
            if folder not in kept and folder <= newest:
                shutil.rmtree(folder, ignore_errors=True)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The complete checkpoint with the most steps; a damaged one is passed over. Collective: rank 0 looks."""
    found: list[Path | None] = [None]
    if dist.get_rank() == 0:
        found = [next((path for path in reversed(step_folders(folder)) if Checkpoint.read(path)), None)]
    dist.broadcast_object_list(found, src=0)
    return None if found[0] is None else Checkpoint.read(found[0])


def step_folders(folder: Path) -> list[Path]:
    """Every `step-*` folder, complete or not, in order of steps."""
    return sorted(folder.glob("step-*"))
