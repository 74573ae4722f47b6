"""Lines on the terminal while a gang trains: made from the metrics and notices that it leaves in its folder."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mos.training.metrics import latest_metrics, progress_line
from mos.training.notices import NewNotices

PROGRESS_EVERY_S = 5.0
"""Seconds between looks at the metrics."""


@contextmanager
def shown_progress(name: str, folder: Path, num_steps: int, batch_size: int) -> Iterator[None]:
    """Print a line whenever the running gang has new metrics, and what its workers have to say."""
    done, notices = threading.Event(), NewNotices(folder)

    def tell() -> None:
        for line in notices.take():
            print(f"{name}: {line}", flush=True)

    def watch() -> None:
        shown = latest_metrics(folder)
        while not done.wait(PROGRESS_EVERY_S):
            tell()
            latest = latest_metrics(folder)
            if latest is not None and latest != shown:
                print(f"{name}: {progress_line(latest, num_steps, batch_size)}", flush=True)
                shown = latest

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        tell()
