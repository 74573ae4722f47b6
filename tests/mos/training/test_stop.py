"""A request to stop as driver and gang see it; `test_fsdp` has two ranks that see it at different times."""

from pathlib import Path

import pytest

from mos.training.stop import StopRequest, StopVote


@pytest.fixture
def request_to_stop(tmp_path: Path) -> StopRequest:
    return StopRequest(tmp_path)


def test_driver_and_gang_see_the_same_request(tmp_path: Path):
    driver, gang = StopRequest(tmp_path), StopRequest(tmp_path)
    assert not driver.is_training()
    gang.enter()
    assert driver.is_training()
    driver.ask()
    assert gang.is_asked()
    gang.leave()
    assert not driver.is_training()
    assert gang.is_asked()


def test_stages_are_asked_one_by_one(tmp_path: Path):
    folders = [tmp_path / "stage1", tmp_path / "stage2"]
    for folder in folders:
        folder.mkdir()
    one, other = (StopRequest(folder) for folder in folders)
    one.ask()
    one.enter()
    assert (other.is_asked(), other.is_training()) == (False, False)


def test_nothing_of_an_earlier_run_is_left_after_clearing(request_to_stop: StopRequest):
    request_to_stop.enter()
    request_to_stop.ask()
    request_to_stop.clear()
    assert (request_to_stop.is_asked(), request_to_stop.is_training()) == (False, False)
    request_to_stop.clear()


def test_asking_and_leaving_twice_are_no_error(request_to_stop: StopRequest):
    request_to_stop.ask()
    request_to_stop.ask()
    request_to_stop.leave()
    assert request_to_stop.is_asked()


def test_one_rank_alone_leaves_after_the_step_in_which_it_is_asked(group, request_to_stop: StopRequest):
    vote, answers = StopVote(request_to_stop), []
    for step in range(3):
        if step == 1:
            request_to_stop.ask()
        answers.append(vote.is_settled())
    assert answers == [False, True, True]
    vote.close()
