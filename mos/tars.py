"""Tar shards written by the webdataset library, that depend on their samples alone: no times, owners or machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mos.files import written_whole

if TYPE_CHECKING:
    from webdataset import TarWriter


@contextmanager
def tar_written_whole(path: Path) -> Iterator["TarWriter"]:
    """A writer of samples, `{"__key__": key, suffix: bytes, ...}`; members of a sample stand side by side, by suffix.

    The file appears under its name only when it is complete.
    """
    from webdataset import TarWriter  # takes a while, which scripts that write no shard are spared

    with (
        written_whole(path) as partial,
        partial.open("wb") as file,
        TarWriter(file, encoder=False, mtime=0, user="", group="") as writer,
    ):
        yield writer
