"""The checkpoints of a stage as it trains: written by all ranks, complete in one rename, old ones removed.

One that cannot be written costs no training: it is said, and tried again when the next one is due. What was read or
written last goes only when a newer one is complete. `mos.training.checkpoint` says what stands in the folder.
"""

import json
import shutil
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from mos.errors import UserError
from mos.training.agreement import from_rank_0
from mos.training.checkpoint import Checkpoint, storage_failure
from mos.training.checkpoint_format import (
    FORMAT,
    MARKER,
    STATE,
    Marker,
    TrainState,
    UnusableCheckpointError,
    folder_name,
    in_rank_order,
    is_complete,
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


class Checkpoints:
    """The checkpoints of one stage. `save` and `finish` are collective; every rank has its own object."""

    def __init__(
        self,
        folder: Path,
        provenance: dict[str, Any],
        *,
        keep: int,
        keep_every: int | None = None,
        background: bool = False,
        patience: int = 3,
        first_step: int = 0,
    ) -> None:
        """Checkpoints in `folder`, the stage's, of which `keep` stay.

        Args:
            folder: where they are.
            provenance: written into each of them.
            keep: complete checkpoints that stay.
            keep_every: checkpoints whose step is a multiple of it stay for ever; None: none do.
            background: write from a copy in host memory while training goes on.
            patience: failures in a row that are borne.
            first_step: of the checkpoint that training began from: a later one that is there was passed over.
        """
        self.folder = folder
        self._provenance = provenance
        self._keep = keep
        self._keep_every = keep_every
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
        failure = from_rank_0(lambda: self._prepare(path, text))
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
        failure = from_rank_0(lambda: pending.failure)
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
        """Remove what is older than the newest `keep` good checkpoints, and what was passed over at the start; those
        that stay for ever stay.
        """
        complete = [folder for folder in step_folders(self.folder) if is_complete(folder)]
        good = [folder for folder in complete if folder in self._written or step_of(folder) <= self._first_step]
        kept = [folder for folder in good if folder.suffix == "" or folder.with_suffix("") not in good][-self._keep :]
        if self._keep_every:
            kept += [folder for folder in good if step_of(folder) % self._keep_every == 0 and folder.suffix == ""]
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


def _raise_unless_storage_failed(shards: Future[dict[str, Checksum]]) -> None:
    """Wait, and raise what writing raised unless training may go on without this checkpoint."""
    error = shards.exception()
    if error is not None and storage_failure(error) is None:
        raise error
