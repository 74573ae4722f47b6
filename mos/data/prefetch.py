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
    """Yield `build(key)` for every key, at most `depth` items ahead.

    An error of `build` is raised here, in its turn. Closing the iterator ends the thread before it returns.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for key in keys:
                if stopped.is_set():
                    return
                put(build(key))
        except BaseException as error:
            put(_Failure(error))
        else:
            put(_END)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
