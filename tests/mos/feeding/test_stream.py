"""The table as a queue: committed, read while it grows, dropped behind the reader, opened again after a crash."""

import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from mos.errors import UserError
from mos.feeding.contexts import list_contexts, load_contexts, save_contexts
from mos.feeding.progress import RankProgress, StreamProgress
from mos.feeding.queue import StateQueue
from mos.feeding.stream import StreamedStates
from mos.loader.index import build_index
from mos.states.packed import PackedStates
from mos.states.payload import StateCodec
from mos.states.quantise import dequantise
from mos.tables.committer import write_encoded
from mos.tables.inventory import list_tables
from mos.tables.lance import create_table, latest_version, read_column
from mos.tables.payloads import RowCache
from mos.tables.removal import plan_removal
from mos.tables.state_tables import states_schema
from mos.tables.views import View
from tests.mos.tables.sample_tables import DIM, NUM_STATES, RESOLUTION, content, make_tables

CODEC = StateCodec("bf16", tuple(range(NUM_STATES)), DIM)
SCHEMA = states_schema("tower-x", CODEC)
KEYS = [f"{number:064x}" for number in range(12)]
CONTEXTS = pa.table({"context_key": KEYS})


def states_of(key: str) -> torch.Tensor:
    return content(key, (2 + int(key, 16) % 3, NUM_STATES, DIM)).bfloat16()


def encode(uri: str, keys: list[str]) -> dict:
    """What a producer does with one task, without the tower."""
    rows = [
        {"context_key": key, "num_tokens": len(states_of(key)), "payload": CODEC.pack(CODEC.quantise(states_of(key)))}
        for key in keys
    ]
    (row,) = write_encoded(uri, pa.Table.from_pylist(rows, schema=SCHEMA), {}).to_pylist()
    return row


def put(queue: StateQueue, keys: list[str]) -> None:
    queue.expect(keys)
    queue.add([encode(queue.uri, keys)])


@pytest.fixture
def queue(tmp_path: Path) -> StateQueue:
    return StateQueue(create_table(str(tmp_path / "queue.lance"), SCHEMA).uri, drop=True)


def reader(queue: StateQueue, timeout_s: float = 20.0, cache_bytes: int = 0) -> StreamedStates:
    return StreamedStates(queue.uri, CONTEXTS, CODEC.layers, RowCache(cache_bytes), timeout_s=timeout_s)


def assert_states(found: list[PackedStates], numbers: list[int]) -> None:
    assert all(torch.equal(dequantise(states), states_of(KEYS[n])) for states, n in zip(found, numbers, strict=True))


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


def test_a_fragment_on_its_way_outlives_a_drop(queue: StateQueue) -> None:
    put(queue, KEYS[:4])
    queue.expect(KEYS[4:6])
    written = encode(queue.uri, KEYS[4:6])
    queue.drop(KEYS[:4])
    queue.add([written])
    assert_states(reader(queue).read([4, 5]), [4, 5])


def test_a_store_that_fails_for_a_while_costs_nothing(queue: StateQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the commit, after it, and between the rows' deletion and that of their files."""

    def away(*_: object, **__: object) -> None:
        raise OSError("the store is away")

    for keys, place in (
        (KEYS[:2], "mos.tables.append_once.append_fragments"),
        (KEYS[2:4], "mos.tables.journal.Journal.remove"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, away)
            with pytest.raises(OSError, match="the store is away"):
                put(queue, keys)
        queue.settle()
    assert sorted(read_column(latest_version(queue.uri), "context_key")) == KEYS[:4]
    with monkeypatch.context() as patch:
        patch.setattr("lance.LanceDataset.cleanup_old_versions", away)
        with pytest.raises(OSError, match="the store is away"):
            queue.drop(KEYS[:2])
    queue.settle()
    put(queue, KEYS[:1])
    assert sorted(queue.sizes()) == [KEYS[0], *KEYS[2:4]]


def test_what_a_killed_driver_did_not_commit_is_there_after_a_restart(queue: StateQueue) -> None:
    put(queue, KEYS[:2])
    encode(queue.uri, KEYS[2:4])
    again = StateQueue(queue.uri, drop=True)
    assert again.num_recovered == 2
    assert set(again.sizes()) == set(KEYS[:4])
    assert_states(reader(again).read([3, 1]), [3, 1])


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


def test_a_queue_that_was_left_behind_is_listed_and_may_go_after_a_rest(tmp_path: Path) -> None:
    queue = StateQueue(create_table(str(tmp_path / "queues" / "stage1-abc.lance"), SCHEMA).uri, drop=True)
    put(queue, KEYS[:3])
    (listed,) = list_tables(str(tmp_path), [])
    assert (listed.kind, listed.rows, listed.encoder) == ("queues", 3, "tower-x")
    assert plan_removal(listed, []).is_empty
    assert plan_removal(listed, [], margin_s=0).whole


def test_a_queue_is_listed_while_it_drops_windows(tmp_path: Path) -> None:
    queue = StateQueue(create_table(str(tmp_path / "queues" / "stage1-abc.lance"), SCHEMA).uri, drop=True)
    put(queue, KEYS[:1])
    done = threading.Event()

    def drop_and_put() -> None:
        for turn in range(30):
            put(queue, [KEYS[1 + turn % 2]])
            queue.drop([KEYS[1 + turn % 2]])
        done.set()

    thread = threading.Thread(target=drop_and_put)
    thread.start()
    while not done.is_set():
        assert len(list_tables(str(tmp_path), [])) == 1
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


def test_progress_files(tmp_path: Path) -> None:
    progress = StreamProgress(tmp_path / "stream")
    progress.clear()
    assert progress.ranks() == []
    progress.report(0, RankProgress(20, 0.5))
    progress.report(1, RankProgress(0, 0.0))
    assert [rank.step for rank in progress.ranks()] == [20, 0]
    assert progress.failure is None
    progress.fail("no more")
    assert progress.failure == "no more"


@pytest.mark.parametrize("tasks", [("generate",), ("generate", "edit")])
def test_an_index_of_contexts_is_that_of_the_table_with_other_numbers(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    tables = make_tables(tmp_path)
    view = View(RESOLUTION, tasks=tasks)
    contexts = list_contexts(tables.samples, view, sees_images=False)
    save_contexts(contexts, tmp_path / "contexts.arrow")
    mapped = load_contexts(tmp_path / "contexts.arrow")
    assert mapped.equals(contexts)
    cached, numbered = build_index(tables, view), build_index(tables, view, mapped)
    keys = read_column(tables.states, "context_key")
    names = mapped["context_key"].to_pylist()
    for column in ("state", "null_state"):
        there, here = getattr(cached, column), getattr(numbered, column)
        assert [keys[row] for row in there] == [names[number] for number in here]
    assert (cached.latent == numbered.latent).all()
    assert (cached.group == numbered.group).all()
