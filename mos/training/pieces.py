"""Weights in the files of a checkpoint, as flat slices, whichever engine wrote them.

FSDP2 cuts a weight by rows and torch.distributed.checkpoint knows it whole, as `model.<name>`. ZeRO cuts the numbers of
many weights laid end to end, so a rank holds any slice of a weight: it is written as a tensor of its own,
`model.<name>@<first number>`. Either is read here as the numbers from one place to another of the weight laid flat.
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

AT = "@"
"""Between a weight's name and the first number of a piece."""


@dataclass(frozen=True)
class _Stored:
    """A tensor in the files that holds a slice of a weight, or all of it."""

    key: str
    start: int
    shape: torch.Size

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape)


class Pieces:
    """The weights in a folder of shards."""

    def __init__(self, folder: Path) -> None:
        """Read what stands where, once for all slices.

        Raises:
            CheckpointException: it cannot be read.
        """
        self.reader = _Reader(folder)
        """Reads the files, and what stands where no more."""
        try:
            stored = self.reader.read_metadata().state_dict_metadata
        except Exception as error:  # pickle, OSError: as torch.distributed.checkpoint reports them
            raise CheckpointException("reading the metadata", {_rank(): (error, None)}) from error  # type: ignore[dict-item]
        self._of: dict[str, list[_Stored]] = {}
        for key, tensor in stored.items():
            if isinstance(tensor, TensorStorageMetadata):
                name, at, start = key.rpartition(AT)
                self._of.setdefault(name if at else key, []).append(_Stored(key, int(start) if at else 0, tensor.size))
        self.are_flat = any(AT in key for key in stored)
        """Whether an engine wrote them that cuts weights anywhere."""

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def read(self, slices: Mapping[str, slice]) -> dict[str, Tensor]:
        """Numbers `slice.start` to `slice.stop` of each weight laid flat, on the CPU.

        Memory is that of the pieces that hold them: for few slices at a time that of a weight or two.

        Raises:
            CheckpointException: a weight is not in the files or the files cannot be read.
        """
        wanted = {name: list(self._covering(name, part)) for name, part in slices.items()}
        read = {piece.key: torch.empty(piece.shape) for pieces in wanted.values() for piece in pieces}
        if read:
            # Said where no process group is; each rank reads on its own here.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
            dcp.load(read, storage_reader=self.reader, no_dist=True)
        return {name: _cut(slices[name], ((one.start, read[one.key]) for one in wanted[name])) for name in slices}

    def _covering(self, name: str, part: slice) -> Iterable[_Stored]:
        pieces = sorted(self._of.get(name, ()), key=lambda piece: piece.start)
        found = [piece for piece in pieces if piece.start < part.stop and piece.stop > part.start]
        reached = part.start
        for piece in found:
            if piece.start > reached:
                break
            reached = piece.stop
        if reached < part.stop:
            missing = KeyError(f"{name} has no numbers from {reached} to {part.stop}")
            raise CheckpointException("looking for a weight", {_rank(): (missing, None)})  # type: ignore[dict-item]
        return found


def _cut(part: slice, pieces: Iterable[tuple[int, Tensor]]) -> Tensor:
    values = torch.empty(part.stop - part.start)
    for start, piece in pieces:
        first, last = max(start, part.start), min(start + piece.numel(), part.stop)
        values[first - part.start : last - part.start] = piece.flatten()[first - start : last - start]
    return values


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


class _Reader(FileSystemReader):
    """Reads the metadata once: a full size has thousands of weights, and each is a call."""

    _known: Metadata | None = None

    def read_metadata(self, *args: object, **kwargs: object) -> Metadata:
        if self._known is None:
            self._known = super().read_metadata(*args, **kwargs)
        return self._known
