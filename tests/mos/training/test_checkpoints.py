"""A stage's checkpoints as it trains: none is lost before a newer one is whole, and a full disk costs no training."""

import os
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mos.errors import UserError
from mos.training.checkpoint import newest_checkpoint, newest_readable
from mos.training.checkpoint_format import STATE, TrainState, is_complete, step_folders
from mos.training.checkpoints import Checkpoints
from mos.training.ema import Ema
from mos.training.export import write_export
from mos.training.loop import train
from mos.training.notices import NewNotices
from tests.mos.training.gloo import run_ranks
from tests.mos.training.small_disk import fill, small_disk
from tests.mos.training.stage_folder import change_byte, names, saved
from tests.mos.training.tiny import tiny_batch, tiny_engine, tiny_stage


def test_the_newest_are_kept_with_what_the_stage_recorded(group, tmp_path):
    saved(tmp_path, 1, 2, 3, keep=2)
    assert names(tmp_path) == ["step-000000002", "step-000000003"]
    found = newest_readable(tmp_path)
    assert (found.state, found.ema_updates, found.provenance) == (TrainState(3), 0, {"run": "test"})


def test_those_of_an_interval_stay_for_ever(group, tmp_path):
    engine = tiny_engine(tiny_stage())
    checkpoints = Checkpoints(tmp_path, {}, keep=1, keep_every=4)
    for step in range(2, 12, 2):
        checkpoints.save(engine, Ema(engine.weights(), 0.9), TrainState(step))
    assert names(tmp_path) == [f"step-{step:09d}" for step in (4, 8, 10)]


def test_a_leftover_of_a_crash_is_written_over(group, tmp_path):
    for step in (3, 6):
        (tmp_path / f"step-00000000{step}").mkdir()
        (tmp_path / f"step-00000000{step}" / STATE).write_text('{"state": {}}')
    saved(tmp_path, 6)
    assert names(tmp_path) == ["step-000000006"]
    assert newest_checkpoint(tmp_path).state == TrainState(6)


def test_what_was_passed_over_is_not_kept_in_place_of_what_is_good(group, tmp_path):
    """The damaged step 6 is removed, not step 3, from which training went on, nor step 5, which it wrote."""
    saved(tmp_path, 3, 6)
    change_byte(tmp_path / "step-000000006" / "shards" / "__0_0.distcp")
    saved(tmp_path, 5, keep=1, first_step=3)
    assert newest_readable(tmp_path).state.step == 6  # by the length of its files
    assert newest_checkpoint(tmp_path).state == TrainState(5)
    saved(tmp_path, 7, keep=2, first_step=5)
    assert names(tmp_path) == ["step-000000005", "step-000000007"]


def test_a_step_that_is_written_again_stands_until_the_new_one_is_complete(group, tmp_path):
    saved(tmp_path, 3, keep=1)
    engine = tiny_engine(tiny_stage())
    again = Checkpoints(tmp_path, {}, keep=1)
    assert again._prepare(tmp_path / "step-000000003", b"{}") is None  # and the process dies here
    assert names(tmp_path) == ["step-000000003.before", "step-000000003"]
    assert newest_checkpoint(tmp_path).state == TrainState(3)
    assert again._prepare(tmp_path / "step-000000003", b"{}") is None  # twice
    assert newest_checkpoint(tmp_path).state == TrainState(3)
    Checkpoints(tmp_path, {}, keep=1).save(engine, Ema(engine.weights(), 0.9), TrainState(3))
    assert names(tmp_path) == ["step-000000003"]
    assert newest_checkpoint(tmp_path).provenance == {}


def test_a_step_that_cannot_be_written_again_is_given_back(group, tmp_path):
    with small_disk(tmp_path / "disk", 1) as folder:
        saved(folder, 3)
        fill(folder, leave=0)
        engine = tiny_engine(tiny_stage())
        Checkpoints(folder, {"run": "again"}, keep=1).save(engine, Ema(engine.weights(), 0.9), TrainState(3))
        assert names(folder) == ["step-000000003"]
        assert newest_checkpoint(folder).provenance == {"run": "test"}


def die_while_writing(folder: Path) -> None:
    """Rank 1 is killed as it writes its shard of step 6; rank 0 finds that out and ends, too."""
    engine = tiny_engine(tiny_stage())
    ema = Ema(engine.weights(), 0.9)
    checkpoints = Checkpoints(folder, {}, keep=1)
    checkpoints.save(engine, ema, TrainState(3))
    if dist.get_rank() == 1:
        (folder / "step-000000003").stat()
        threading.Thread(target=_kill_when, args=(folder / "step-000000006" / STATE,), daemon=True).start()
        engine.save = lambda *_, **__: time.sleep(60)
    checkpoints.save(engine, ema, TrainState(6))


def _kill_when(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), 9)


@pytest.mark.slow
def test_the_only_checkpoint_survives_a_rank_that_dies_while_the_next_is_written(group, tmp_path):
    with pytest.raises(torch.multiprocessing.ProcessExitedException):
        run_ranks(die_while_writing, 2, tmp_path)
    assert names(tmp_path) == ["step-000000003", "step-000000006"]
    found = newest_checkpoint(tmp_path)
    assert found.state == TrainState(3)
    saved(tmp_path, 6, keep=1, first_step=3)
    assert names(tmp_path) == ["step-000000006"]


def train_on_a_full_disk(folder: Path, background: bool) -> None:
    """Steps 2 and 4 find no room, step 6 does; then never again."""
    rank = dist.get_rank()
    stage = tiny_stage(checkpoint_every=2, steps=10, async_checkpoint=background)
    engine = tiny_engine(stage)
    ema = Ema(engine.weights(), stage.ema_decay)
    checkpoints = Checkpoints(folder, {}, keep=1, background=background, patience=2)
    seen: list[tuple[int, list[str]]] = []

    def watch(line) -> None:
        if line.step in (5, 7):  # by now the checkpoint before has come to its end, also in the background
            checkpoints._settle()
            dist.barrier()
            seen.append((line.step, names(folder)))
            if rank == 0 and line.step == 5:
                (folder / "filler").unlink()
            if rank == 0 and line.step == 7:
                fill(folder, leave=20_000)
            dist.barrier()

    if rank == 0:
        fill(folder, leave=20_000)
    dist.barrier()
    batches = (tiny_batch(step, rank, dist.get_world_size()) for step in range(stage.steps))
    with pytest.raises(UserError, match=r"the last checkpoint in .* \(rank \d: OSError: .*No space left"):
        train(engine, ema, batches, stage, TrainState(), checkpoints=checkpoints, report=watch)
    dist.barrier()
    assert seen == [(5, []), (7, ["step-000000006"])]
    assert names(folder) == ["step-000000006"]
    with pytest.raises(UserError, match=r"export .* No space left"):
        write_export(folder / "export", engine, ema, {})
    dist.barrier()
    assert not list(folder.glob("*export*"))


@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_costs_checkpoints_and_no_training(group, tmp_path, background):
    with small_disk(tmp_path / "disk", 8) as folder:
        news = NewNotices(folder)
        run_ranks(train_on_a_full_disk, 2, folder, background)
        said = news.take()
        assert [line.split(":")[0].split()[1][-2:] for line in said] == ["02", "04", "08", "10"]
        assert all("No space left" in line and "training goes on" in line for line in said)
        assert newest_checkpoint(folder).state.step == 6
        assert not list(folder.rglob("*partial*"))


def test_patience_ends_with_a_sentence(group, tmp_path):
    with small_disk(tmp_path / "disk", 1) as folder:
        fill(folder, leave=20_000)
        engine = tiny_engine(tiny_stage())
        ema, checkpoints = Ema(engine.weights(), 0.9), Checkpoints(folder, {}, keep=1, patience=1)
        checkpoints.save(engine, ema, TrainState(2))
        with pytest.raises(UserError, match=r"2 checkpoints in a row .* checkpoint_patience = 1: make room"):
            checkpoints.save(engine, ema, TrainState(4))
        assert names(folder) == []


def test_room_that_runs_out_at_any_point_leaves_nothing_torn(group, tmp_path):
    """From no room at all to enough: either the checkpoint is whole, or the one before stands alone."""
    with small_disk(tmp_path / "disk", 4) as folder:
        saved(folder, 1, keep=1)
        (first,) = step_folders(folder)
        needed = sum(-(-path.stat().st_size // 4096) * 4096 for path in first.rglob("*") if path.is_file())
        engine = tiny_engine(tiny_stage())
        ema, outcomes = Ema(engine.weights(), 0.9), set()
        for leave in range(0, needed + 32768, 16384):
            filler = fill(folder, leave)
            checkpoints = Checkpoints(folder, {}, keep=1, first_step=1)
            checkpoints.save(engine, ema, TrainState(2))
            filler.unlink()
            outcomes.add(tuple(names(folder)))
            if names(folder) != [first.name]:
                break
            assert newest_checkpoint(folder).state == TrainState(1)
        assert outcomes == {(first.name,), ("step-000000002",)}
        assert newest_checkpoint(folder).state == TrainState(2)


def test_an_error_that_is_not_the_storages_is_raised(group, tmp_path, monkeypatch):
    engine = tiny_engine(tiny_stage())
    monkeypatch.setattr("mos.training.shard_writer.Checksum", lambda **_: 1 / 0)
    with pytest.raises(BaseException, match="ZeroDivisionError"):
        Checkpoints(tmp_path, {}, keep=1).save(engine, Ema(engine.weights(), 0.9), TrainState(2))


def test_a_background_checkpoint_counts_once_somebody_looks(group, tmp_path):
    engine = tiny_engine(tiny_stage())
    ema, checkpoints = Ema(engine.weights(), 0.9), Checkpoints(tmp_path, {}, keep=1, background=True)
    checkpoints.poll()
    for step in (2, 4):
        checkpoints.save(engine, ema, TrainState(step))
        assert not is_complete(tmp_path / f"step-00000000{step}")
        checkpoints._pending.shards.result(timeout=60)
        checkpoints.poll()
        assert newest_checkpoint(tmp_path).state == TrainState(step)
        assert names(tmp_path) == [f"step-00000000{step}"]
    checkpoints.save(engine, ema, TrainState(6))
    checkpoints.finish()
    assert newest_checkpoint(tmp_path).state == TrainState(6)


def test_only_failures_in_a_row_are_counted_and_the_last_checkpoint_may_not_fail(group, tmp_path):
    """A file stands where the stage's folder should be; then it does not; then it does again."""
    engine, folder = tiny_engine(tiny_stage()), tmp_path / "stage"
    ema, checkpoints = Ema(engine.weights(), 0.9), Checkpoints(folder, {}, keep=1, patience=1)
    folder.touch()
    checkpoints.save(engine, ema, TrainState(2))
    folder.unlink()
    checkpoints.save(engine, ema, TrainState(4))
    assert newest_checkpoint(folder).state == TrainState(4)
    folder.rename(tmp_path / "away")
    folder.touch()
    checkpoints.save(engine, ema, TrainState(6))
    with pytest.raises(UserError, match=r"the last checkpoint in .*/stage could not be .*Not a directory.*: make room"):
        checkpoints.finish()
    with pytest.raises(UserError, match=r"2 checkpoints in a row could not be written .* checkpoint_patience = 1"):
        checkpoints.save(engine, ema, TrainState(8))
