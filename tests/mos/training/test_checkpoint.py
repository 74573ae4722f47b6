"""Checkpoints are believed only as they were written, and seen alike by all ranks."""

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from mos.errors import UserError
from mos.training import checkpoint
from mos.training.checkpoint import Checkpoint, newest_checkpoint, open_checkpoint
from mos.training.checkpoint_format import MARKER, TrainState, step_folders
from mos.training.ema import Ema
from mos.training.notices import NewNotices
from tests.mos.training.gloo import process_group, run_ranks
from tests.mos.training.small_disk import fill, small_disk
from tests.mos.training.stage_folder import change_byte, saved
from tests.mos.training.tiny import tiny_engine, tiny_stage


def notices(folder: Path) -> list[str]:
    return [line for path in sorted(folder.glob("notices/*.log")) for line in path.read_text().splitlines()]


def zero_block(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rewrite(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def step_counter(path: Path) -> None:
    path.write_text(path.read_text().replace('"step": 6', '"step": 7'))


SHARD, METADATA, STATE = "shards/__0_0.distcp", "shards/.metadata", "state.json"
DAMAGE = {
    "a byte of a shard": (SHARD, change_byte, "sha256"),
    "a block of a shard zeroed": (SHARD, zero_block, "sha256"),
    "a shard cut short": (SHARD, cut, "bytes instead of"),
    "a shard missing": (SHARD, Path.unlink, "is missing"),
    "a byte of the metadata": (METADATA, change_byte, "sha256"),
    "the metadata zeroed": (METADATA, zero, "sha256"),
    "the metadata missing": (METADATA, Path.unlink, "is missing"),
    "the step counter": (STATE, step_counter, "sha256"),
    "the state zeroed": (STATE, zero, "sha256"),
    "the marker null": (MARKER, lambda path: path.write_text("null"), "not what it should be"),
    "the marker a list": (MARKER, lambda path: path.write_text('["state.json"]'), "not what it should be"),
    "the marker zeroed": (MARKER, zero, "is no JSON"),
    "the marker cut": (MARKER, cut, "is no JSON"),
    "the marker empty": (MARKER, lambda path: path.write_text(""), "is no JSON"),
    "the marker without files": (MARKER, lambda path: path.write_text("{}"), "does not name state.json"),
    "the marker without a field": (MARKER, lambda path: rewrite(path, lambda c: c.pop("format")), "not what it should"),
    "the marker with a newer field": (MARKER, lambda path: rewrite(path, lambda c: c.update(z=1)), "newer version"),
    "the marker of a newer format": (MARKER, lambda path: rewrite(path, lambda c: c.update(format=9)), "newer version"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with process_group(0, 1, folder / "rendezvous"):
        saved(folder / "stage", 3, 6)
    return folder / "stage"


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_a_line(group, whole, tmp_path, kind):
    name, damage, reason = DAMAGE[kind]
    folder = shutil.copytree(whole, tmp_path / "stage")
    damage(folder / "step-000000006" / name)
    found = newest_checkpoint(folder)
    assert found is not None
    assert found.state == TrainState(3)
    (line,) = notices(folder)
    assert "step-000000006" in line
    assert reason in line
    assert f"training goes on from {folder / 'step-000000003'}" in line
    with pytest.raises(UserError, match=r"step-000000006 cannot be used .*--force"):
        open_checkpoint(folder / "step-000000006")


def reseal(path: Path) -> None:
    """Give a state.json that was changed on purpose the checksum of its new content."""
    text = (path / STATE).read_bytes()
    rewrite(path / MARKER, lambda c: c["files"].update({STATE: checkpoint.Checksum.of(text).model_dump()}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["state"].update(samples_left_out=3), "newer version"),
        (lambda c: c.update(sampler={}), "newer version"),
        (lambda c: c.pop("ema_updates"), "ema_updates: Field required"),
        (lambda c: c["state"].update(step=-6), "greater than or equal to 0"),
        (lambda c: c["state"].update(step=9), "is of step 9"),
        (lambda c: c.update(state=None), "not what it should be"),
    ],
)
def test_a_state_that_this_version_does_not_know_is_passed_over(group, whole, tmp_path, change, reason):
    folder = shutil.copytree(whole, tmp_path / "stage")
    rewrite(folder / "step-000000006" / STATE, change)
    reseal(folder / "step-000000006")
    assert newest_checkpoint(folder).state == TrainState(3)
    assert reason in notices(folder)[0]


def test_checkpoints_of_a_newer_version_alone_are_not_trained_over(group, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "stage")
    for path in step_folders(folder):
        rewrite(path / MARKER, lambda c: c.update(format=9))
    with pytest.raises(UserError, match="newer version"):
        newest_checkpoint(folder)


def test_nothing_good_begins_anew_and_says_so(group, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "stage")
    for path in step_folders(folder):
        zero(path / METADATA)
    assert newest_checkpoint(folder) is None
    assert len(notices(folder)) == 2
    assert all("begins at step 0" in line for line in notices(folder))


def older(path: Path) -> None:
    """The marker as the first format had it: sizes alone."""
    rewrite(path / MARKER, lambda c: c.update({name: file["size"] for name, file in c.pop("files").items()}))
    rewrite(path / MARKER, lambda c: c.pop("format"))


def test_a_checkpoint_of_sizes_alone_is_read(group, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "stage")
    older(folder / "step-000000006")
    engine = tiny_engine(tiny_stage())
    found = newest_checkpoint(folder)
    found.restore(engine, Ema(engine.weights(), 0.9), optimizer=True)
    assert found.state == TrainState(6)
    cut(folder / "step-000000006" / SHARD)
    assert newest_checkpoint(folder).state == TrainState(3)


@pytest.mark.parametrize("name", [METADATA, SHARD])
def test_a_checkpoint_without_checksums_that_does_not_load_is_named(group, whole, tmp_path, name):
    folder = shutil.copytree(whole, tmp_path / "stage")
    older(folder / "step-000000006")
    zero(folder / "step-000000006" / name)
    engine = tiny_engine(tiny_stage())
    with pytest.raises(UserError, match=r"step-000000006 cannot be loaded .* remove this folder"):
        newest_checkpoint(folder).restore(engine, Ema(engine.weights(), 0.9), optimizer=True)


def behind_a_cache(folder: Path, outdated: Path, seconds: float) -> None:
    """Rank 1 sees an outdated folder for a while, as through a network file system's cache, or for good."""
    if dist.get_rank() == 1:
        import ctypes

        assert ctypes.CDLL(None, use_errno=True).unshare(0x20000) == 0, "no mounts of its own"
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "--bind", str(outdated), str(folder)], check=True)
        threading.Timer(seconds, lambda: subprocess.run(["umount", "-l", str(folder)], check=True)).start()


def find_behind_a_cache(folder: Path, outdated: Path) -> None:
    behind_a_cache(folder, outdated, 2.0)
    began = time.monotonic()
    found = newest_checkpoint(folder)
    assert (found.state, found.ema_updates, found.provenance) == (TrainState(6), 0, {"run": "test"})
    assert time.monotonic() - began > 1.5
    engine = tiny_engine(tiny_stage())
    found.restore(engine, Ema(engine.weights(), 0.9), optimizer=True)


def give_up_behind_a_cache(folder: Path, outdated: Path) -> None:
    checkpoint.VISIBLE_WITHIN_S = 1.0
    behind_a_cache(folder, outdated, 600.0)
    with pytest.raises(UserError, match=rf"rank 1 does not see {folder}/step-000000006/\S+ as rank 0 does, after 1 s"):
        newest_checkpoint(folder)
    os._exit(0)  # the timer is still waiting


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a process mounts of its own")
@pytest.mark.parametrize("check", [find_behind_a_cache, give_up_behind_a_cache])
def test_all_ranks_take_what_rank_0_sees(whole, tmp_path, check):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mounts of a process's own are not allowed here")
    folder, outdated = shutil.copytree(whole, tmp_path / "stage"), shutil.copytree(whole, tmp_path / "outdated")
    shutil.rmtree(outdated / "step-000000006")
    run_ranks(check, 2, folder, outdated)


def damaged_for_rank_1(folder: Path) -> None:
    """Each rank reads a part of the files: what only rank 1 finds is known to both."""
    if dist.get_rank() == 0:
        saved_by_all = Checkpoint.read(folder / "step-000000006").files
        change_byte(folder / "step-000000006" / list(saved_by_all)[1])
    dist.barrier()
    assert newest_checkpoint(folder).state == TrainState(3)
    dist.barrier()
    assert len(notices(folder)) == 1


def save_on_all(folder: Path) -> None:
    saved(folder, 3, 6)
    files = Checkpoint.read(folder / "step-000000006").files
    assert sorted(files) == ["shards/.metadata", "shards/__0_0.distcp", "shards/__1_0.distcp", "state.json"]
    assert all(file.differs(folder / "step-000000006" / name) is None for name, file in files.items())
    assert all(file.sha256 is not None for file in files.values())


def check_two_ranks(folder: Path) -> None:
    save_on_all(folder)
    dist.barrier()
    damaged_for_rank_1(folder)


@pytest.mark.slow
def test_every_ranks_files_are_summed_and_compared(tmp_path):
    run_ranks(check_two_ranks, 2, tmp_path)


def test_notices_wait_for_room_and_are_read_once(group, tmp_path):
    with small_disk(tmp_path / "disk", 1) as folder:
        from mos.training.notices import Notices

        new, mine = NewNotices(folder), Notices(folder)
        filler = fill(folder, leave=0)
        mine.say("one\nline")
        assert new.take() == []
        filler.unlink()
        mine.say("another")
        assert new.take() == ["one line", "another"]
        assert new.take() == []
        assert NewNotices(folder).take() == []
