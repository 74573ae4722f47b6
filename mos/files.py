"""Files that are there whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def written_first(path: Path, text: str) -> str:
    """Text of a file that is written once: this text, or that of whoever came before, on any machine that shares the
    folder.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        try:
            mine.write_text(text, encoding="utf-8")
            with suppress(FileExistsError):
                os.link(mine, path)
        finally:
            mine.unlink(missing_ok=True)
    return path.read_text(encoding="utf-8")
