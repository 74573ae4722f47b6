"""Building ahead: in order, bounded, honest about errors, gone when closed."""

import threading
import time

import pytest

from mos.loader.prefetch import prefetch


def prefetch_threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_items_come_in_order():
    assert list(prefetch(lambda key: key * key, range(20), 3)) == [key * key for key in range(20)]


def test_no_more_than_depth_items_are_built_ahead():
    built = []
    items = prefetch(lambda key: built.append(key) or key, range(100), 2)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(built) == 3  # one given out, two ahead
    items.close()


def test_an_error_arrives_in_its_turn():
    def build(key: int) -> float:
        return 1 / (3 - key)

    items = prefetch(build, range(10), 5)
    assert [next(items) for _ in range(3)] == [1 / 3, 1 / 2, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert prefetch_threads() == 0


def test_closing_ends_the_thread():
    items = prefetch(lambda key: key, iter(int, 1), 2)
    next(items)
    assert prefetch_threads() == 1
    items.close()
    assert prefetch_threads() == 0
