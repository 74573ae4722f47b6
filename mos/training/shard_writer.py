"""torch.distributed.checkpoint's files, with a checksum of each taken as its bytes pass: nothing is read twice.

Checksums of all ranks reach rank 0 with what the ranks report of their shards, on the same collectives.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future as TorchFuture

from mos.training.checksums import Checksum


class ShardSaver:
    """Writes the state of an engine, at once or in the background."""

    def __init__(self) -> None:
        self._background_group: dist.ProcessGroup | None = None

    def save(self, state: dict[str, Any], folder: Path, *, background: bool) -> Future[dict[str, Checksum]]:
        """Write tensors, those of every rank; the result is, on rank 0, the checksum of every file by name. Collective.

        What failed on one rank fails on all.
        """
        writer = ShardWriter(folder)
        written = self._in_background(state, writer) if background else _at_once(state, writer)
        saved: Future[dict[str, Checksum]] = Future()

        def hand_over(written: Future) -> None:
            error = written.exception()
            if error is None:
                saved.set_result(writer.checksums)
            else:
                saved.set_exception(error)

        written.add_done_callback(hand_over)
        return saved

    def _in_background(self, state: dict[str, Any], writer: "ShardWriter") -> Future:
        if self._background_group is None:
            self._background_group = dist.new_group(backend="gloo")
        written = dcp.async_save(state, storage_writer=writer, process_group=self._background_group)
        assert isinstance(written, Future)
        return written


class ShardWriter(FileSystemWriter):
    """Writes the shards of one checkpoint into a folder that holds none."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.checksums: dict[str, Checksum] = {}
        """On rank 0, once all is written: of every rank's files by name."""
        self.fs = self._files = _SummedFiles()

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> TorchFuture[list[WriteResult]]:
        """Write this rank's shards."""
        written = _Written(super().write_data(plan, planner).wait(), self._files.checksums)
        future: TorchFuture[list[WriteResult]] = TorchFuture()
        future.set_result(written)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write what says where each tensor stands; on rank 0, after all ranks."""
        super().finish(metadata, results)
        self.checksums = dict(self._files.checksums)
        for written in results:
            assert isinstance(written, _Written)
            self.checksums |= written.checksums


class _Written(list[WriteResult]):
    """Report of one rank, with the checksums of its files."""

    def __init__(self, results: list[WriteResult], checksums: dict[str, Checksum]) -> None:
        super().__init__(results)
        self.checksums = checksums


class _SummedFiles(FileSystem):
    """Local files, written from their beginning to their end."""

    def __init__(self) -> None:
        self.checksums: dict[str, Checksum] = {}

    @contextmanager
    def create_stream(self, path: str | os.PathLike, mode: str) -> Iterator[io.IOBase]:
        """A stream that is summed as it is written; an error of the disk is raised as the disk's."""
        with super().create_stream(path, mode) as raw:
            stream = _SummedStream(raw)
            try:
                yield stream
            except RuntimeError as error:  # torch.save, which hides why a write failed
                if stream.error is None:
                    raise
                raise stream.error from error
        self.checksums[Path(path).name] = stream.checksum()

    def rename(self, path: str | os.PathLike, new_path: str | os.PathLike) -> None:
        """Rename a file; its checksum goes with it."""
        super().rename(path, new_path)
        self.checksums[Path(new_path).name] = self.checksums.pop(Path(path).name)


class _SummedStream(io.IOBase):
    """Sums what is written to another stream, and remembers why that stream refused."""

    def __init__(self, raw: io.IOBase) -> None:
        self.error: OSError | None = None
        self._raw = raw
        self._digest = hashlib.sha256()
        self._size = 0

    def checksum(self) -> Checksum:
        return Checksum(size=self._size, sha256=self._digest.hexdigest())

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            written = self._raw.write(data)
        except OSError as error:
            self.error = error
            raise
        self._digest.update(data)
        self._size += written
        return written

    def tell(self) -> int:
        return self._raw.tell()

    def fileno(self) -> int:
        return self._raw.fileno()

    def flush(self) -> None:
        if not self._raw.closed:
            self._raw.flush()

    def close(self) -> None:
        self._raw.close()
        super().close()


def _at_once(state: dict[str, Any], writer: ShardWriter) -> Future:
    """Write now; a failure, which every rank learns of, is in the future."""
    written: Future = Future()
    try:
        written.set_result(dcp.save(state, storage_writer=writer))
    except CheckpointException as error:
        written.set_exception(error)
    return written
