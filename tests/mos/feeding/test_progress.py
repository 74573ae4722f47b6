"""What trainer and producers tell each other in files."""

import os
from pathlib import Path

import pytest

from mos.feeding.progress import RankProgress, StreamProgress


@pytest.fixture
def progress(tmp_path: Path) -> StreamProgress:
    progress = StreamProgress(tmp_path / "runs" / "stream")
    progress.clear()
    return progress


def test_progress_files(progress: StreamProgress) -> None:
    assert progress.ranks() == []
    progress.report(0, RankProgress(20, 0.5))
    progress.report(1, RankProgress(0, 0.0))
    assert progress.ranks() == [RankProgress(20, 0.5), RankProgress(0, 0.0)]
    assert progress.failure is None
    progress.fail("no more: größer")
    assert progress.failure == "no more: größer"


def test_a_rank_has_one_report_also_where_it_goes_back(progress: StreamProgress) -> None:
    progress.report(0, RankProgress(40, 2.0))
    progress.report(0, RankProgress(10, 0.0))
    assert progress.ranks() == [RankProgress(10, 0.0)]


def test_an_earlier_attempt_is_forgotten_as_a_whole(progress: StreamProgress) -> None:
    for rank in range(3):
        progress.report(rank, RankProgress(7, 0.0))
    progress.fail("no room")
    progress.clear()
    assert (progress.ranks(), progress.failure, progress.reported_at()) == ([], None, 0.0)


def test_what_a_killed_rank_was_writing_is_not_read(progress: StreamProgress, tmp_path: Path) -> None:
    progress.report(0, RankProgress(7, 0.0))
    (tmp_path / "runs" / "stream" / ".rank-1.json.77.partial").write_text('{"step": 9')
    assert progress.ranks() == [RankProgress(7, 0.0)]


def test_the_last_report_is_that_of_the_rank_which_spoke_last(progress: StreamProgress, tmp_path: Path) -> None:
    progress.report(0, RankProgress(7, 0.0))
    progress.report(1, RankProgress(7, 0.0))
    progress.fail("no room")
    for name, second in ("rank-0.json", 900), ("rank-1.json", 500), ("failed.txt", 1000):
        os.utime(tmp_path / "runs" / "stream" / name, (second, second))
    assert progress.reported_at() == 900


def test_ranks_that_a_smaller_gang_does_not_have_are_forgotten(tmp_path):
    progress = StreamProgress(tmp_path)
    for rank in (0, 1, 11):
        progress.report(rank, RankProgress(rank, 0.0))
    progress.keep_ranks(2)
    assert [found.step for found in progress.ranks()] == [0, 1]
