"""Lines on the terminal while a gang trains: made from the metrics and notices that it leaves in its folder."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mos.training.metrics import latest_metrics, progress_line
from mos.training.notices import NewNotices
from mos.watching import watching

PROGRESS_EVERY_S = 5.0
"""Seconds between looks at the metrics."""


@contextmanager
def shown_progress(name: str, folder: Path, num_steps: int, batch_size: int) -> Iterator[None]:
    """Print a line whenever the running gang has new metrics, and what its workers have to say."""
    notices = NewNotices(folder)

    def tell() -> None:
        for line in notices.take():
            print(f"{name}: {line}", flush=True)

    def watch(ended: threading.Event) -> None:
        shown = latest_metrics(folder)
        while not ended.wait(PROGRESS_EVERY_S):
            tell()
            latest = latest_metrics(folder)
            if latest is not None and latest != shown:
                print(f"{name}: {progress_line(latest, num_steps, batch_size)}", flush=True)
                shown = latest

    try:
        with watching("progress", watch):
            yield
    finally:
        tell()
