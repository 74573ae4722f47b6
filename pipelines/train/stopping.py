"""Ctrl-C and SIGTERM during a stage: the first one ends it in order, a second one at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mos.training.stop import StopRequest

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping_in_order(name: str, folder: Path) -> Iterator[StopRequest]:
    """Turn the first signal into a request to the gang that trains in `folder`, for the duration of the block.

    To be entered when Ray is connected, which takes SIGTERM for itself. Where nothing is lost by ending at once, since
    no gang is in its training loop, and at a second signal, the block is left by KeyboardInterrupt. Outside the main
    thread signals stay what they are.
    """
    request = StopRequest(folder)
    request.clear()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.is_asked() or not request.is_training():
            raise KeyboardInterrupt
        request.ask()
        print(f"\n{name}: ends after this step with a checkpoint; interrupt again to end at once", flush=True)

    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        request.clear()
