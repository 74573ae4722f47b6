"""A gang that hangs ends, and says for whom it waited."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessExitedException

from mos.training.notices import NewNotices
from mos.training.whereabouts import EXIT_CODE, Place, hang_text, ranks_behind, read_places, watched
from tests.mos.training.gloo import process_group, run_ranks

NOW = 1000.0
PLACE = Place(0, 7, "updating", NOW - 90, NOW - 1, "node-a", 11)


def test_those_who_came_least_far_are_waited_for() -> None:
    places = [PLACE, replace(PLACE, rank=1, doing="reading a batch"), replace(PLACE, rank=2)]
    assert ranks_behind(places, NOW - 40) == [places[1]]
    assert hang_text([places[1]], NOW, NOW - 40) == (
        "training hangs, all wait for: rank 1 (node-a, process 11), reading a batch after step 7 for 90 s"
    )
    ahead = [places[0], replace(PLACE, rank=1, step=8, doing="reading a batch")]
    assert ranks_behind(ahead, NOW - 40) == [places[0]]


def test_a_silent_process_is_waited_for_wherever_it_was() -> None:
    silent = replace(PLACE, rank=1, step=9, heard=NOW - 300)
    assert ranks_behind([PLACE, silent], NOW - 40) == [silent]
    assert hang_text([silent], NOW, NOW - 40).endswith("rank 1 (node-a, process 11), last heard of 300 s ago")


def test_ranks_that_hang_together_are_told_apart_from_those_that_wait() -> None:
    places = [PLACE, replace(PLACE, rank=1)]
    assert ranks_behind(places, NOW - 40) == []
    assert "look at the network and the storage" in hang_text([], NOW, NOW - 40)
    many = [replace(PLACE, rank=rank) for rank in range(20)]
    assert hang_text(many, NOW, NOW - 40).endswith(" and 12 more")


def test_places_are_those_of_the_gang_that_trains(tmp_path: Path) -> None:
    (tmp_path / "ranks").mkdir()
    (tmp_path / "ranks" / "rank-00007.json").write_text("of a larger gang")
    with process_group(0, 1, tmp_path / "rendezvous"), watched(tmp_path, 60) as whereabouts:
        whereabouts.at(3, "updating")
        whereabouts._write(whereabouts._place())
        (place,) = read_places(tmp_path)
    assert (place.rank, place.step, place.doing, place.pid) == (0, 3, "updating", os.getpid())
    assert not [thread for thread in threading.enumerate() if thread.name == "whereabouts"]


def hang(folder: Path) -> None:
    with watched(folder, 2.0) as whereabouts:
        whereabouts.at(5, "reading a batch")
        if dist.get_rank() == 1:
            time.sleep(60)
        whereabouts.at(5, "updating")
        dist.all_reduce(torch.zeros(1))


def test_a_rank_that_does_not_come_is_named_and_the_gang_ends(tmp_path: Path) -> None:
    notices = NewNotices(tmp_path)
    with pytest.raises(ProcessExitedException) as ended:
        run_ranks(hang, 2, tmp_path)
    assert ended.value.exit_code == EXIT_CODE
    (line,) = notices.take()
    assert line.startswith("training hangs, all wait for: rank 1 (")
    assert ", reading a batch after step 5 for " in line
    assert line.endswith("the gang ends and starts again")
