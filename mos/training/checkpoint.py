"""Sharded checkpoints in a folder: complete or invisible, the newest good one found again, old ones removed.

    step-000000123/
        shards/         written by every rank (torch.distributed.checkpoint): model, optimizer, EMA
        state.json      counters, resolved config, table versions
        COMPLETE.json   checksum of every file; written last, in one rename: without it the folder does not count
    step-000000123.before/
        a complete checkpoint of a step that is being written again, until the new one is complete

A checkpoint that cannot be written costs no training: it is said, and tried again when the next one is due. One that is
damaged is passed over, and said. What was read or written last goes only when a newer one is complete.

A checkpoint folder is trusted input: torch.distributed.checkpoint reads its metadata with pickle.
"""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from mos.errors import UserError
from mos.training.checkpoint_format import (
    FORMAT,
    MARKER,
    STATE,
    Marker,
    NewerCheckpointError,
    Saved,
    TrainState,
    UnusableCheckpointError,
    folder_name,
    in_rank_order,
    is_complete,
    parse,
    read_marker,
    refuse,
    set_aside,
    step_folders,
    step_of,
    sync_names,
    write_durably,
)
from mos.training.checksums import Checksum
from mos.training.ema import Ema
from mos.training.engine import Engine
from mos.training.notices import Notices

VISIBLE_WITHIN_S = 180.0
"""How long a rank waits for files that rank 0 sees: network file systems show a new file elsewhere after a minute."""
LOOK_EVERY_S = 0.5
"""Seconds between looks for them."""

Value = TypeVar("Value")


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
        """What reading every file finds wrong, or None. Collective: each rank waits for all and reads its share.

        Raises:
            UserError: a rank does not see a file that rank 0 sees.
        """
        unseen = self._wait_for_files()
        share = list(self.files.items())[dist.get_rank() :: dist.get_world_size()]
        wrong = None if unseen else next((text for text in (self._wrong(*file) for file in share) if text), None)
        found = _gather((unseen, wrong))
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


class Checkpoints:
    """The checkpoints of one stage. `save` and `finish` are collective; every rank has its own object."""

    def __init__(
        self,
        folder: Path,
        provenance: dict[str, Any],
        *,
        keep: int,
        background: bool = False,
        patience: int = 3,
        first_step: int = 0,
    ) -> None:
        """Checkpoints in `folder`, the stage's, of which `keep` stay.

        Args:
            folder: where they are.
            provenance: written into each of them.
            keep: complete checkpoints that stay.
            background: write from a copy in host memory while training goes on.
            patience: failures in a row that are borne.
            first_step: of the checkpoint that training began from: a later one that is there was passed over.
        """
        self.folder = folder
        self._provenance = provenance
        self._keep = keep
        self._background = background
        self._patience = patience
        self._first_step = first_step
        self._notices = Notices(folder)
        self._pending: _Pending | None = None
        self._failures: list[str] = []
        self._written: set[Path] = set()

    def save(self, engine: Engine, ema: Ema, state: TrainState) -> None:
        """Write one checkpoint; in the background only its copy to host memory is waited for.

        Raises:
            UserError: more than `patience` checkpoints in a row could not be written.
        """
        self._settle()
        path = self.folder / folder_name(state.step)
        saved = {"state": asdict(state), "ema_updates": ema.num_updates, "provenance": self._provenance}
        text = json.dumps(saved, indent=2).encode()
        failure = _from_rank_0(lambda: self._prepare(path, text))
        if failure is not None:
            self._count(failure)
            return
        shards = engine.save(path / "shards", ema.average, background=self._background)
        self._pending = _Pending(path, Checksum.of(text), shards)
        if not self._background:
            self._settle()

    def poll(self) -> None:
        """Make a background checkpoint count as soon as it is written; never waits."""
        self._notices.flush()
        if dist.get_rank() == 0 and self._pending is not None and self._pending.shards.done():
            self._conclude(self._pending)

    def finish(self) -> None:
        """Wait for a background checkpoint and make it count.

        Raises:
            UserError: the last checkpoint could not be written.
        """
        self._settle()
        if self._failures:
            raise UserError(
                f"the last checkpoint in {self.folder} could not be written ({self._failures[-1]}): make room "
                "there and start the stage again; it goes on from the checkpoint before"
            )

    def _settle(self) -> None:
        """Wait until the pending checkpoint is complete or has failed; all ranks learn which from rank 0."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if dist.get_rank() == 0:
            self._conclude(pending)
        else:
            _raise_unless_storage_failed(pending.shards)
        failure = _from_rank_0(lambda: pending.failure)
        if failure is None:
            self._failures = []
        else:
            self._count(failure)

    def _count(self, failure: str) -> None:
        """Bear one more failure."""
        self._failures.append(failure)
        if len(self._failures) > self._patience:
            raise UserError(
                f"{len(self._failures)} checkpoints in a row could not be written in {self.folder} ({failure}), more "
                f"than checkpoint_patience = {self._patience}: make room there and start the stage again"
            )

    def _prepare(self, path: Path, state: bytes) -> str | None:
        """On rank 0: room for a checkpoint, and its state.json; why not, or None."""
        try:
            for folder in step_folders(self.folder):
                if not is_complete(folder):  # of a run that died
                    shutil.rmtree(folder)
            if path.exists():
                shutil.rmtree(set_aside(path), ignore_errors=True)
                path.rename(set_aside(path))
            path.mkdir(parents=True)
            write_durably(path / STATE, state)
        except OSError as error:
            return self._withdraw(path, str(error))
        return None

    def _conclude(self, pending: "_Pending") -> None:
        """On rank 0, once: make a checkpoint whose shards are written complete, or take back what there is of it."""
        if pending.is_concluded:
            return
        pending.is_concluded = True
        _raise_unless_storage_failed(pending.shards)
        try:
            self._commit(pending.path, pending.state, pending.shards.result())
        except (CheckpointException, OSError) as error:
            pending.failure = self._withdraw(pending.path, storage_failure(error) or str(error))

    def _commit(self, path: Path, state: Checksum, shards: dict[str, Checksum]) -> None:
        files = {STATE: state, **{f"shards/{name}": shards[name] for name in sorted(shards, key=in_rank_order)}}
        text = Marker(format=FORMAT, files=files).model_dump_json(indent=2).encode()
        partial = path / f".{MARKER}.partial"
        write_durably(partial, text)
        for folder in (path / "shards", path, self.folder):
            sync_names(folder)
        partial.replace(path / MARKER)
        sync_names(path)
        try:
            Checkpoint.read(path)
        except UnusableCheckpointError as error:
            raise OSError(f"it does not read as it was written: {error}") from error
        self._written.add(path)
        self._prune(path)

    def _withdraw(self, path: Path, failure: str) -> str:
        """Leave nothing of a checkpoint that could not be written, and say so; returns why it could not."""
        shutil.rmtree(path, ignore_errors=True)
        if set_aside(path).exists():
            set_aside(path).rename(path)
        self._notices.say(
            f"checkpoint {path} could not be written ({failure}): training goes on and tries again when the next one "
            f"is due, failure {len(self._failures) + 1} in a row of {self._patience} that are borne"
        )
        return failure

    def _prune(self, newest: Path) -> None:
        """Remove what is older than the newest `keep` good checkpoints, and what was passed over at the start."""
        complete = [folder for folder in step_folders(self.folder) if is_complete(folder)]
        good = [folder for folder in complete if folder in self._written or step_of(folder) <= self._first_step]
        kept = [folder for folder in good if folder.suffix == "" or folder.with_suffix("") not in good][-self._keep :]
        for folder in step_folders(self.folder):
            if folder not in kept and step_of(folder) <= step_of(newest):
                shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Pending:
    """A checkpoint that is being written."""

    path: Path
    state: Checksum
    shards: Future[dict[str, Checksum]]
    is_concluded: bool = False
    """On rank 0: whether it is complete or was taken back."""
    failure: str | None = None
    """On rank 0: why it was taken back."""


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
        found = _from_rank_0(lambda: _pop_readable(left, refused))
        if found is None or (damage := found.damage()) is None:
            break
        refused.append(UnusableCheckpointError(f"checkpoint {found.path} is damaged: {damage}"))
    _tell(notices, refused, found)
    if found is None and _from_rank_0(lambda: any(isinstance(error, NewerCheckpointError) for error in refused)):
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
    found = _from_rank_0(lambda: _pop_readable([path], refused))
    reason = _from_rank_0(lambda: str(refused[0]) if refused else None) if found is None else found.damage()
    if found is None or reason is not None:
        raise UserError(
            f"checkpoint {path} cannot be used ({reason}): train the stage that wrote it again with --force"
        )
    return found


def newest_readable(folder: Path) -> Checkpoint | None:
    """The checkpoint that training would go on from if no shard is damaged; for one process alone."""
    return _pop_readable(step_folders(folder), [])


def storage_failure(error: BaseException) -> str | None:
    """What the storage refused, if that is why a checkpoint could not be written or read on some ranks."""
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


def _raise_unless_storage_failed(shards: Future[dict[str, Checksum]]) -> None:
    """Wait, and raise what writing raised unless training may go on without this checkpoint."""
    error = shards.exception()
    if error is not None and storage_failure(error) is None:
        raise error


def _first_failure(error: CheckpointException) -> str:
    rank, (cause, _) = next(iter(error.failures.items()))
    sentence = str(cause).partition("\n")[0].partition(". ")[0]
    return f"rank {rank}: {type(cause).__name__}: {sentence}"


def _from_rank_0(ask: Callable[[], Value]) -> Value:
    """What rank 0 answers, on every rank."""
    answers: list[Any] = [ask() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(answers, src=0)
    return answers[0]


def _gather(mine: Value) -> list[Value]:
    """What every rank has, in order of ranks, on every rank."""
    answers: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(answers, mine)
    return answers
