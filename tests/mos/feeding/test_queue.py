"""The table between producers and trainer, as the side that commits and drops: what fails, what comes twice."""

import threading
from pathlib import Path

import pytest

from mos.feeding.queue import StateQueue
from mos.tables.inventory import list_tables
from mos.tables.lance import latest_version, read_column
from mos.tables.removal import plan_removal
from tests.mos.feeding.queues import KEYS, assert_states, encode, new_queue, payload_of, put, reader


def keys_in(queue: StateQueue) -> list[str]:
    return sorted(read_column(latest_version(queue.uri), "context_key"))


def test_sizes_are_the_bytes_of_every_payload(queue: StateQueue) -> None:
    assert queue.sizes() == {}
    put(queue, KEYS[:2])
    put(queue, KEYS[2:5])
    assert queue.sizes() == {key: len(payload_of(key)) for key in KEYS[:5]}
    assert len(set(queue.sizes().values())) > 1


@pytest.mark.parametrize("dropped_before", [False, True])
def test_what_nobody_asked_for_is_refused(queue: StateQueue, dropped_before: bool) -> None:
    put(queue, KEYS[:2])
    queue.expect(KEYS[5:6])
    queue.add([encode(queue.uri, [], {KEYS[5]: "torn"})])
    if dropped_before:
        queue.drop(KEYS[:1])
    for key in KEYS[0], KEYS[5], KEYS[7]:
        with pytest.raises(RuntimeError, match=f"key {key} came twice or was never asked for"):
            queue.add([encode(queue.uri, [key])])
    assert keys_in(queue) == KEYS[dropped_before:2]


def test_a_context_that_failed_leaves_no_row_and_may_be_asked_for_again(queue: StateQueue) -> None:
    queue.expect(KEYS[:3])
    queue.add([encode(queue.uri, KEYS[:1], failures={KEYS[1]: "torn"}), encode(queue.uri, [], {KEYS[2]: "torn"})])
    assert keys_in(queue) == KEYS[:1]
    put(queue, KEYS[1:3])
    assert keys_in(queue) == KEYS[:3]


def test_what_is_dropped_in_several_deletions_may_come_again(
    queue: StateQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mos.tables.lance.VALUES_PER_DELETE", 2)
    put(queue, KEYS[:6])
    queue.drop(KEYS[:5])
    assert keys_in(queue) == KEYS[5:6]
    put(queue, KEYS[6:7])
    queue.drop([KEYS[5], KEYS[11]])
    assert keys_in(queue) == KEYS[6:7]
    put(queue, KEYS[4:6])
    assert keys_in(queue) == KEYS[4:7]


def test_a_shared_table_never_loses_a_row(queue: StateQueue) -> None:
    put(queue, KEYS[:2])
    shared = StateQueue(queue.uri, drop=False)
    with pytest.raises(AssertionError, match="a shared table keeps its rows"):
        shared.drop(KEYS[:1])
    shared.finish_interrupted()
    assert keys_in(shared) == KEYS[:2]


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
        queue.finish_interrupted()
    assert keys_in(queue) == KEYS[:4]
    with monkeypatch.context() as patch:
        patch.setattr("lance.LanceDataset.cleanup_old_versions", away)
        with pytest.raises(OSError, match="the store is away"):
            queue.drop(KEYS[:2])
    queue.finish_interrupted()
    put(queue, KEYS[:1])
    assert sorted(queue.sizes()) == [KEYS[0], *KEYS[2:4]]


def test_what_a_killed_driver_did_not_commit_is_there_after_a_restart(queue: StateQueue) -> None:
    put(queue, KEYS[:2])
    encode(queue.uri, KEYS[2:4])
    again = StateQueue(queue.uri, drop=True)
    assert again.num_recovered == 2
    assert set(again.sizes()) == set(KEYS[:4])
    assert_states(reader(again).read([3, 1]), [3, 1])


def test_a_queue_that_was_left_behind_is_listed_and_may_go_after_a_rest(tmp_path: Path) -> None:
    queue = new_queue(tmp_path / "queues" / "stage1-abc.lance")
    put(queue, KEYS[:3])
    (listed,) = list_tables(str(tmp_path), [])
    assert (listed.kind, listed.rows, listed.encoder) == ("queues", 3, "tower-x")
    assert plan_removal(listed, []).is_empty
    assert plan_removal(listed, [], margin_s=0).whole


def test_a_queue_is_listed_while_it_drops_windows(tmp_path: Path) -> None:
    queue = new_queue(tmp_path / "queues" / "stage1-abc.lance")
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
