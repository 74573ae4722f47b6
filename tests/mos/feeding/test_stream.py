"""The table as a queue: read while it grows, dropped behind the reader."""

import threading
import time
from pathlib import Path

import pytest

from mos.errors import UserError
from mos.feeding.contexts import list_contexts, load_contexts, save_contexts
from mos.feeding.queue import StateQueue
from mos.loader.join import build_index
from mos.tables.lance import latest_version, read_column
from mos.tables.views import View
from tests.mos.feeding.queues import KEYS, assert_states, put, reader
from tests.mos.tables.sample_tables import RESOLUTION, make_tables


def test_what_is_not_there_yet_is_waited_for(queue: StateQueue) -> None:
    states = reader(queue)
    put(queue, KEYS[:3])
    assert_states(states.read([2, 0, 2]), [2, 0, 2])
    later = threading.Timer(0.4, put, (queue, KEYS[3:6]))
    later.start()
    assert_states(states.read([1, 4, 5]), [1, 4, 5])
    later.join()
    assert 0.2 < states.waited_s < 5


def test_dropped_rows_free_their_bytes_and_may_come_again(queue: StateQueue) -> None:
    states = reader(queue)
    put(queue, KEYS[:4])
    put(queue, KEYS[4:8])
    assert_states(states.read([0, 5]), [0, 5])
    before = sum(path.stat().st_size for path in Path(queue.uri, "data").rglob("*.blob"))
    queue.drop(KEYS[:4])
    after = sum(path.stat().st_size for path in Path(queue.uri, "data").rglob("*.blob"))
    assert after < 0.7 * before
    assert set(queue.sizes()) == set(KEYS[4:8])
    assert_states(states.read([6, 7]), [6, 7])
    put(queue, [KEYS[2], KEYS[9]])
    put(queue, [KEYS[0], KEYS[1], KEYS[3]])
    assert_states(states.read([0, 2, 9, 4]), [0, 2, 9, 4])
    keys = read_column(latest_version(queue.uri), "context_key")
    assert len(keys) == len(set(keys)) == 9


def test_readers_and_a_writer_that_drops_do_not_disturb_each_other(queue: StateQueue) -> None:
    """Sixty windows of four contexts, each dropped as soon as the reader is past it, the keys used again and again."""
    reached = [0]
    windows = [[(3 * window + i) % len(KEYS) for i in range(4)] for window in range(60)]

    def produce() -> None:
        there: set[int] = set()
        for window, wanted in enumerate(windows):
            while reached[0] < window - 1:
                time.sleep(0.001)
            needed = {n for ahead in windows[reached[0] : window + 1] for n in ahead}
            if there - needed:
                queue.drop([KEYS[n] for n in there - needed])
            there &= needed
            put(queue, [KEYS[n] for n in wanted if n not in there]) if set(wanted) - there else None
            there |= set(wanted)

    thread = threading.Thread(target=produce)
    thread.start()
    states = reader(queue)
    for window, wanted in enumerate(windows):
        reached[0] = window
        assert_states(states.read(wanted), wanted)
    thread.join()


def test_a_reader_gives_up_with_a_remedy(queue: StateQueue, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"raise states\.producers\.max"):
        reader(queue, timeout_s=0.2).read([0])


def test_a_reader_s_disk_that_fails_is_no_reason_to_wait(queue: StateQueue) -> None:
    put(queue, KEYS[:1])
    put(queue, KEYS[1:3])
    states = reader(queue)
    assert_states(states.read([0]), [0])
    for path in Path(queue.uri, "data").rglob("*.blob"):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        states.read([1])
    assert states.waited_s < 5


@pytest.mark.parametrize("tasks", [("generate",), ("generate", "edit")])
def test_an_index_of_contexts_is_that_of_the_table_with_other_numbers(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    tables = make_tables(tmp_path)
    view = View(RESOLUTION, tasks=tasks)
    contexts = list_contexts(tables.samples, view, sees_images=False)
    save_contexts(contexts, tmp_path / "contexts.arrow")
    mapped = load_contexts(tmp_path / "contexts.arrow")
    assert mapped.equals(contexts)
    cached, numbered = build_index(tables, view, tmp_path / "a"), build_index(tables, view, tmp_path / "b", mapped)
    keys = read_column(tables.states, "context_key")
    names = mapped["context_key"].to_pylist()
    for column in ("state", "null_state"):
        there, here = getattr(cached, column), getattr(numbered, column)
        assert [keys[row] for row in there] == [names[number] for number in here]
    assert (cached.latent == numbered.latent).all()
    assert (cached.group == numbered.group).all()
