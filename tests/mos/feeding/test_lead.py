"""The lead: what is encoded next, what may go, how far ahead; no table and no actor needed."""

import random

import pytest

from mos.errors import UserError
from mos.feeding.lead import Lead, LeadRule

WINDOWS = [[0, 1, 2], [0, 3, 4], [5, 6, 0], [1, 2, 7], [8, 9, 0], [10, 11, 12]]
MB = 1e6


def lead(max_mb: float, present=(), drop: bool = True, pinned=(), windows=WINDOWS) -> Lead:
    rule = LeadRule(len(windows), max_mb * MB, drop)
    return Lead(lambda window: windows[window], lambda c: [c[i : i + 2] for i in range(0, len(c), 2)],
                rule, dict.fromkeys(present, MB), pinned)  # fmt: skip


def encode_all(ahead: Lead) -> list[int]:
    """Every context that is encoded before the lead is full, one megabyte each."""
    done = []
    for _ in range(3 * len(WINDOWS)):
        while (task := ahead.next_task()) is not None:
            ahead.arrived(task.contexts, len(task.contexts) * MB)
            done += task.contexts
    return done


def test_windows_are_encoded_in_order_as_far_as_the_bound_goes():
    ahead = lead(7)
    assert encode_all(ahead) == [0, 1, 2, 3, 4, 5, 6]
    assert ahead.missing() == 0
    assert not ahead.all_planned


def test_a_consumed_window_makes_room_and_what_is_needed_again_stays():
    ahead = lead(7)
    encode_all(ahead)
    assert ahead.follow(1) == [1, 2]
    assert encode_all(ahead) == [1, 2]
    assert ahead.follow(2) == [3, 4]
    assert encode_all(ahead) == [7]


def test_a_shared_table_keeps_its_rows_and_nothing_is_encoded_twice():
    ahead = lead(5, drop=False)
    done = encode_all(ahead)
    for window in range(1, len(WINDOWS)):
        assert ahead.follow(window) == []
        done += encode_all(ahead)
        assert ahead.missing() == 0
    assert sorted(done) == list(range(13))


def test_a_restart_takes_what_is_there_and_drops_what_nobody_needs():
    ahead = lead(6, present=[3, 4, 20, 21])
    assert ahead.follow(1) == []
    assert encode_all(ahead) == [0]
    assert sorted(ahead.make_room()) == [20, 21]
    assert encode_all(ahead)[:2] == [5, 6]
    ahead = lead(3, present=[20, 21, 22])
    assert ahead.next_task() is None
    assert sorted(ahead.make_room()) == [20, 21, 22]
    assert encode_all(ahead) == [0, 1, 2]


def test_what_the_trainer_s_new_window_shares_with_the_last_one_stays():
    ahead = lead(6, present=[0, 3, 4])
    assert ahead.follow(1) == []
    assert ahead.missing() == 0
    encode_all(ahead)
    ahead.arrived((), 0)
    assert ahead.missing() == 0


def test_going_back_to_an_earlier_checkpoint_encodes_again_what_was_dropped():
    ahead = lead(7)
    encode_all(ahead)
    ahead.follow(1)
    ahead.follow(2)
    encode_all(ahead)
    assert ahead.follow(0) == []
    again = encode_all(ahead)
    ahead.make_room()
    again += encode_all(ahead)
    assert {3, 4} <= set(again)
    assert ahead.missing() == 0


def test_pinned_contexts_come_first_and_stay():
    ahead = lead(20, pinned=[12])
    assert encode_all(ahead)[:1] == [12]
    for window in range(1, len(WINDOWS)):
        assert 12 not in ahead.follow(window)
        encode_all(ahead)


def test_a_bound_below_one_window_is_refused():
    ahead = lead(2)
    with pytest.raises(UserError, match=r"raise states\.lead_mb or lower states\.window_steps"):
        encode_all(ahead)


@pytest.mark.parametrize("seed", range(20))
def test_any_trainer_gets_every_state_and_the_bound_holds(seed: int):
    """Windows, restarts and steps back drawn at random: nothing is missing, nothing there twice, never too much."""
    draw = random.Random(seed)
    windows = [draw.sample(range(40), draw.randint(2, 8)) for _ in range(15)]
    bound = draw.randint(10, 25)
    ahead, table, running, window = lead(bound, windows=windows, pinned=[0]), set(), [], 0
    for _ in range(4000):
        table -= set(ahead.follow(window))
        table -= set(ahead.make_room())
        if len(running) < 2 and (task := ahead.next_task()) is not None:
            running.append(task)
        if running and draw.random() < 0.5:
            task = running.pop(draw.randrange(len(running)))
            assert not table & set(task.contexts)
            table |= set(task.contexts)
            ahead.arrived(task.contexts, len(task.contexts) * MB)
        assert len(table) <= bound
        if {*windows[window]} <= table and draw.random() < 0.4:
            window += 1
        elif draw.random() < 0.01:
            window = draw.randint(0, window)
        if draw.random() < 0.01:
            ahead = lead(bound, present=sorted(table), windows=windows, pinned=[0])
            running = []
        if window == len(windows):
            return
    raise AssertionError("the trainer was never given its last window")
