"""Items built ahead of their use, in order, by one background thread."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(frozen=True)
class _Failure:
    error: BaseException


_END = object()


def prefetch(build: Callable[[Key], Item], keys: Iterable[Key], depth: int) -> Generator[Item, None, None]:
    """Yield `build(key)` for every key, at most `depth` items ahead, the one that is being built included.

    An error of `build` is raised here, in its turn. Closing the iterator ends the thread before it returns.
    """
    ready: queue.SimpleQueue[object] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    stopped = threading.Event()

    def work() -> None:
        try:
            for key in keys:
                room.acquire()
                if stopped.is_set():
                    return
                ready.put(build(key))
        except BaseException as error:
            ready.put(_Failure(error))
        else:
            ready.put(_END)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            room.release()
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        room.release()
        thread.join()
