"""A stage's samples change when an epoch begins, once for everybody, and never for what was trained on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mos.loader.cells import sort_into_cells
from mos.loader.index import NO_ROW, SampleIndex
from mos.loader.plan import BatchPlan, make_plan
from mos.loader.segments import Decisions, Segment, Segments

BATCH = 2


def load(number: int) -> tuple[SampleIndex, BatchPlan]:
    """Set 0 has 6 samples, of 3 batches an epoch; each later one 4 more; rows of set n begin at 100 n."""
    num = 6 + 4 * number
    index = SampleIndex(
        group=np.zeros(num, np.int16),
        groups=("generate 16x16",),
        source=np.zeros(num, np.int16),
        sources=("a",),
        state=100 * number + np.arange(num),
        null_state=np.zeros(num, np.int64),
        latent=np.arange(num),
        reference=np.full(num, NO_ROW),
        address=np.arange(num),
        cells=sort_into_cells(np.zeros(num, int), np.zeros(num, int)),
    )
    return index, make_plan(index.cells, batch_size=BATCH, seed=3)


def states(segments: Segments, step: int) -> list[int]:
    """Contexts of one step."""
    index, plan = segments.load(segments.at(step))
    epoch, position = plan.locate(step)
    return index.state[plan.epoch(epoch).rows[position]].tolist()


def counted(steps: list[list[int]]) -> dict[int, int]:
    return dict(Counter(context for step in steps for context in step))


def test_a_stage_that_takes_nothing_newer_has_one_segment(tmp_path: Path) -> None:
    segments = Segments(load)
    assert {segments.at(step) for step in range(20)} == {Segment(0, 0, 0)}
    kept = Segments(load, Decisions(tmp_path, None))
    assert [states(kept, step) for step in range(9)] == [states(segments, step) for step in range(9)]
    assert not [*tmp_path.iterdir()]


def test_newer_samples_come_when_an_epoch_begins_and_each_once_in_it(tmp_path: Path) -> None:
    newest = [0]
    segments = Segments(load, Decisions(tmp_path, lambda: newest[0]))
    before = [states(segments, step) for step in range(4)]
    newest[0] = 1  # in the second step of the second epoch
    before += [states(segments, step) for step in (4, 5)]
    assert counted(before) == dict.fromkeys(range(6), 2)
    after = [states(segments, step) for step in range(6, 16)]
    assert counted(after) == {100 + state: 2 for state in range(10)}
    assert segments.at(6) == Segment(1, 2, 6)
    newest[0] = 2
    assert segments.at(15) == segments.at(6)
    assert segments.at(16) == Segment(2, 4, 16)
    assert states(segments, 3) == before[3]


def test_what_was_decided_stays_for_whoever_comes_later(tmp_path: Path) -> None:
    newest = [0]
    first = Segments(load, Decisions(tmp_path, lambda: newest[0]))
    assert first.at(0).samples == 0
    newest[0] = 1
    trained = [states(first, step) for step in range(12)]
    newest[0] = 3
    for takes in (lambda: newest[0], None):
        resumed = Segments(load, Decisions(tmp_path, takes))
        assert [states(resumed, step) for step in range(5, 12)] == trained[5:]
    late = Segments(load, Decisions(tmp_path, lambda: newest[0]))
    assert [states(late, step) for step in (4, 7, 2)] == [trained[step] for step in (4, 7, 2)]


def test_two_that_come_to_an_epoch_at_once_take_the_same(tmp_path: Path) -> None:
    one = Segments(load, Decisions(tmp_path, lambda: 1))
    other = Segments(load, Decisions(tmp_path, lambda: 2))
    assert other.at(0).samples == 2
    assert one.at(0) == other.at(0)
    assert other.at(7) == one.at(7) == Segment(1, 1, 7) or one.at(7).samples == 2


def test_an_epoch_that_was_begun_is_not_decided_anew(tmp_path: Path) -> None:
    resumed = Segments(load, Decisions(tmp_path, lambda: 1))
    assert resumed.at(4) == Segment(0, 0, 0)  # the stage took nothing newer before; this is a step in its second epoch
    assert resumed.at(6) == Segment(1, 2, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-000000002"]


@pytest.mark.parametrize("sizes", [(5, 9), (9, 5), (3, 40), (40, 3)])
def test_a_plan_that_begins_later_goes_on_as_it_would(sizes: tuple[int, int]) -> None:
    plans = [make_plan(sort_into_cells(np.zeros(n, int), np.zeros(n, int)), batch_size=BATCH, seed=1) for n in sizes]
    step = plans[0].first_step(3)
    later = plans[1].beginning(3, step)
    assert later.first_step(3) == step
    assert later.locate(step) == (3, 0)
    for ahead in range(30):
        epoch, position = later.locate(step + ahead)
        assert plans[1].locate(plans[1].first_step(3) + ahead) == (epoch, position)
    assert later.beginning(5, later.first_step(5)).steps_before == later.steps_before
