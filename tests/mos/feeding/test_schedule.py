"""What a stage will ask for is what its trainer asks for, step by step."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from mos.feeding.schedule import Demand
from mos.loader.builder import BatchBuilder, DrawRule, Share
from mos.loader.cells import sort_into_cells
from mos.loader.index import NO_ROW, SampleIndex
from mos.loader.join import build_index
from mos.loader.plan import make_plan
from mos.loader.segments import Segments
from mos.states.packed import PackedStates
from mos.tables.payloads import LatentTable, RowCache, StateTable
from mos.tables.views import View
from tests.mos.tables.sample_tables import RESOLUTION, make_tables

STATES = [9, 9, 4, 7, 1, 4]
NULL = 0


def demand(steps: int = 9, window_steps: int = 2, caption_dropout: float = 0.0) -> Demand:
    """Of six samples, two a batch: an epoch is three steps."""
    num = len(STATES)
    index = SampleIndex(
        group=np.zeros(num, np.int16),
        groups=("generate 16x16",),
        source=np.zeros(num, np.int16),
        sources=("a",),
        state=np.array(STATES),
        null_state=np.full(num, NULL),
        latent=np.arange(num),
        reference=np.full(num, NO_ROW),
        address=np.arange(num),
        cells=sort_into_cells(np.zeros(num, int), np.zeros(num, int)),
    )
    plan = make_plan(index.cells, batch_size=2, seed=3)
    return Demand(Segments(lambda _: (index, plan)), 7, caption_dropout, steps=steps, window_steps=window_steps)


@pytest.mark.parametrize(
    ("steps", "window_steps", "windows"),
    [(7, 3, [[0, 1, 2], [3, 4, 5], [6]]), (4, 2, [[0, 1], [2, 3]]), (2, 5, [[0, 1]]), (1, 1, [[0]])],
)
def test_every_step_is_in_one_window(steps: int, window_steps: int, windows: list[list[int]]) -> None:
    asked = demand(steps, window_steps)
    assert [list(asked.steps_of(window)) for window in range(asked.num_windows)] == windows
    for window, members in enumerate(windows):
        assert {asked.window_of(step) for step in members} == {window}


def test_an_epoch_asks_for_the_context_of_each_sample_once() -> None:
    asked = demand()
    for epoch in range(3):
        steps = [asked.step(3 * epoch + place).tolist() for place in range(3)]
        assert Counter(context for step in steps for context in step) == Counter(STATES)


def test_a_window_names_each_context_once_and_those_of_its_first_steps_first() -> None:
    asked = demand(steps=30, window_steps=5)
    for window in range(asked.num_windows):
        contexts, so_far = asked.window(window), set()
        for step in asked.steps_of(window):
            so_far |= set(asked.step(step).tolist())
            assert set(contexts[: len(so_far)]) == so_far
        assert len(contexts) == len(so_far)


def test_a_dropped_caption_asks_for_its_null_context() -> None:
    assert demand(caption_dropout=1.0).window(0) == [NULL]
    asked = demand(steps=300, caption_dropout=0.25)
    contexts = Counter(context for step in range(300) for context in asked.step(step).tolist())
    assert 100 < contexts[NULL] < 200


class Noted:
    """A table of states that notes what it is asked for."""

    def __init__(self, table: StateTable) -> None:
        self.asked: list[int] = []
        self._table = table

    def read(self, rows: Iterable[int]) -> list[PackedStates]:
        rows = list(rows)
        self.asked += rows
        return self._table.read(rows)


def test_the_ranks_of_a_trainer_ask_for_what_the_producers_expect(tmp_path: Path) -> None:
    tables = make_tables(tmp_path, num_pairs=14, num_edits=5)
    index = build_index(tables, View(RESOLUTION, tasks=("generate", "edit")), tmp_path / "index")
    plan = make_plan(index.cells, batch_size=2, seed=3)
    rule = DrawRule(7, torch.sqrt, caption_dropout=0.4, exploration=None)
    states = Noted(StateTable(tables.states, RowCache(0)))
    latents = LatentTable(tables.latents, RowCache(0))
    ranks = [BatchBuilder(plan, index, states, latents, rule, Share(rank, 2)) for rank in range(2)]
    expected = Demand(Segments(lambda _: (index, plan)), 7, 0.4, steps=24, window_steps=4)
    assert plan.locate(23)[0] >= 2
    for step in range(24):
        states.asked = []
        for rank in ranks:
            rank.build(step)
        assert states.asked == expected.step(step).tolist()
