"""Sharded checkpoints in a folder: complete or invisible, verified before they are believed, the newest good one found.

    step-000000123/
        shards/         written by every rank (torch.distributed.checkpoint): model, optimizer, EMA
        state.json      counters, resolved config, table versions
        COMPLETE.json   checksum of every file; written last, in one rename: without it the folder does not count
    step-000000123.before/
        a complete checkpoint of a step that is being written again, until the new one is complete

One that is damaged is passed over, and said. `mos.training.checkpoints` writes them.

A checkpoint folder is trusted input: torch.distributed.checkpoint reads its metadata with pickle.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from mos.errors import UserError
from mos.training.agreement import from_rank_0, gather
from mos.training.checkpoint_format import (
    MARKER,
    STATE,
    NewerCheckpointError,
    Saved,
    TrainState,
    UnusableCheckpointError,
    folder_name,
    is_complete,
    parse,
    read_marker,
    refuse,
    step_folders,
)
from mos.training.checksums import Checksum
from mos.training.ema import Ema
from mos.training.engine import Engine
from mos.training.notices import Notices

VISIBLE_WITHIN_S = 180.0
"""How long a rank waits for files that rank 0 sees: network file systems show a new file elsewhere after a minute."""
LOOK_EVERY_S = 0.5
"""Seconds between looks for them."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    state: TrainState
    ema_updates: int
    provenance: dict[str, Any]
    """Resolved config, table versions: whatever the stage recorded."""
    files: dict[str, Checksum]
    """Every file but the marker, by its path in the folder."""

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """The checkpoint in a folder; of the shards only their lengths are looked at.

        Raises:
            UnusableCheckpointError: something is missing, damaged or newer than this code.
        """
        try:
            files = read_marker(path / MARKER)
            for name, checksum in files.items():
                refuse(name, checksum.differs_in_size(path / name))
            text = (path / STATE).read_bytes()
            refuse(STATE, files[STATE].differs(path / STATE))
        except OSError as error:
            raise UnusableCheckpointError(str(error)) from error
        saved = parse(STATE, Saved, text)
        if not path.name.startswith(folder_name(saved.state.step)):
            raise UnusableCheckpointError(f"{STATE} is of step {saved.state.step}")
        return cls(path, saved.state, saved.ema_updates, saved.provenance, files)

    def damage(self) -> str | None:
        """Fault that reading every file shows, or None. Collective: each rank waits for all and reads its share.

        Raises:
            UserError: a rank does not see a file that rank 0 sees.
        """
        unseen = self._wait_for_files()
        share = list(self.files.items())[dist.get_rank() :: dist.get_world_size()]
        wrong = None if unseen else next((text for text in (self._wrong(*file) for file in share) if text), None)
        found = gather((unseen, wrong))
        for rank, (name, _) in enumerate(found):
            if name is not None:
                raise UserError(
                    f"rank {rank} does not see {self.path / name} as rank 0 does, after {VISIBLE_WITHIN_S:.0f} s: let "
                    "every node mount this folder"
                )
        return next((text for _, text in found if text is not None), None)

    def restore(self, engine: Engine, ema: Ema, *, optimizer: bool) -> None:
        """Load weights and EMA, and the optimizer for resuming the same stage, at any world size.

        Raises:
            UserError: the files cannot be loaded, though they have their checksums or are too old to have any.
            OSError: the storage fails.
        """
        try:
            engine.load(self.path / "shards", ema.average, optimizer=optimizer)
        except CheckpointException as error:
            reason = storage_failure(error)
            if reason is not None:
                raise OSError(f"checkpoint {self.path} cannot be read: {reason}") from error
            raise UserError(
                f"checkpoint {self.path} cannot be loaded ({_first_failure(error)}): remove this folder to go on from "
                "the checkpoint before it"
            ) from error
        ema.num_updates = self.ema_updates

    def _wait_for_files(self) -> str | None:
        """The first file that this rank still does not see in its full length, or None."""
        deadline = time.monotonic() + VISIBLE_WITHIN_S
        names = iter(self.files)
        name = next(names, None)
        while name is not None:
            if self.files[name].differs_in_size(self.path / name) is None:
                name = next(names, None)
            elif time.monotonic() > deadline:
                return name
            else:
                time.sleep(LOOK_EVERY_S)
        return None

    def _wrong(self, name: str, checksum: Checksum) -> str | None:
        try:
            wrong = checksum.differs(self.path / name)
        except OSError as error:
            return str(error)
        return None if wrong is None else f"{name} {wrong}"


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The good checkpoint with the most steps; what is damaged is passed over and said. Collective.

    Rank 0 looks and tells the others what it found, which then wait for what they do not see yet.

    Raises:
        UserError: a rank does not see what rank 0 sees, or a newer version wrote all there is.
    """
    notices = Notices(folder)
    refused: list[UnusableCheckpointError] = []
    left = step_folders(folder)
    while True:
        found = from_rank_0(lambda: _pop_readable(left, refused))
        if found is None or (damage := found.damage()) is None:
            break
        refused.append(UnusableCheckpointError(f"checkpoint {found.path} is damaged: {damage}"))
    _tell(notices, refused, found)
    if found is None and from_rank_0(lambda: any(isinstance(error, NewerCheckpointError) for error in refused)):
        raise UserError(
            f"every checkpoint in {folder} was written by a newer version: use that one, or begin anew with --force"
        )
    return found


def open_checkpoint(path: Path) -> Checkpoint:
    """One particular checkpoint, read in full. Collective.

    Raises:
        UserError: it is missing or damaged, or a rank does not see what rank 0 sees.
    """
    refused: list[UnusableCheckpointError] = []
    found = from_rank_0(lambda: _pop_readable([path], refused))
    reason = from_rank_0(lambda: str(refused[0]) if refused else None) if found is None else found.damage()
    if found is None or reason is not None:
        reason = reason or "it is missing"
        raise UserError(
            f"checkpoint {path} cannot be used ({reason}): train the stage that wrote it again with --force"
        )
    return found


def newest_readable(folder: Path) -> Checkpoint | None:
    """The checkpoint that training would go on from if no shard is damaged; for one process alone."""
    return _pop_readable(step_folders(folder), [])


def storage_failure(error: BaseException) -> str | None:
    """Error of the storage, if that is why a checkpoint could not be written or read on some ranks."""
    if isinstance(error, OSError):
        return str(error)
    if isinstance(error, CheckpointException) and all(isinstance(one, OSError) for one, _ in error.failures.values()):
        return _first_failure(error)
    return None


def _pop_readable(left: list[Path], refused: list[UnusableCheckpointError]) -> Checkpoint | None:
    """The last of the folders that reads as a checkpoint; it and those after it are taken off the list."""
    while left:
        path = left.pop()
        if not is_complete(path):
            continue
        try:
            return Checkpoint.read(path)
        except UnusableCheckpointError as error:
            refused.append(type(error)(f"checkpoint {path} is not usable: {error}"))
    return None


def _tell(notices: Notices, refused: list[UnusableCheckpointError], found: Checkpoint | None) -> None:
    """Say on rank 0 what was passed over, and what training goes on from instead."""
    if dist.get_rank() != 0 or not refused:
        return
    instead = "training begins at step 0" if found is None else f"training goes on from {found.path}"
    for error in refused:
        notices.say(f"{error}; {instead}")


def _first_failure(error: CheckpointException) -> str:
    rank, (cause, _) = next(iter(error.failures.items()))
    sentence = str(cause).partition("\n")[0].partition(". ")[0]
    return f"rank {rank}: {type(cause).__name__}: {sentence}"
