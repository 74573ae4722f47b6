"""One driver a stage: a second one would write into the same checkpoints and drop the same queue."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mos.errors import UserError


@contextmanager
def stage_lock(folder: Path) -> Iterator[None]:
    """Hold a stage's folder for the duration of the block; the lock ends with the process, however that ends.

    The file stands beside the folder, which `--force` removes.

    Raises:
        UserError: another process holds it.
    """
    path = lock_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is training into {folder}: wait until it has ended, or end it; two trainings of one "
                "stage need two values of `root`"
            ) from error
        except OSError as error:  # a file system without locks
            print(f"{path} cannot be locked ({error}): take care that no other process trains this stage", flush=True)
        yield


def is_locked(folder: Path) -> bool:
    """True if a driver holds the stage's folder, or may do so, where that cannot be told."""
    path = lock_file(folder)
    if not path.is_file():
        return False
    try:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def lock_file(folder: Path) -> Path:
    """The file that is locked."""
    return folder.with_name(f"{folder.name}.lock")
