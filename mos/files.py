"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place in the folder of `path` to write to, which takes that name when the block ends: nobody reads half of it.

    Where the block fails, what was written goes and `path` stays as it was. Not durable: a machine that loses power may
    lose the file, see `mos.training.checkpoints` for what must outlast that.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
