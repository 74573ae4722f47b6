"""One driver a stage, one queue a run."""

from pathlib import Path

import pytest

from mos.errors import UserError
from pipelines.run.config import load_run
from pipelines.train.lock import is_locked, stage_lock
from tests.kills import make_run


def test_a_stage_has_one_driver_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "stage1" / "abc"
    assert not is_locked(folder)
    with stage_lock(folder):
        assert is_locked(folder)
        with pytest.raises(UserError, match="two values of `root`"), stage_lock(folder):
            pass
    assert not is_locked(folder)
    with stage_lock(folder):
        pass


def test_runs_that_share_a_tables_folder_have_queues_of_their_own(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", 1)
    shared = f"tables={tmp_path / 'shared'}"
    one, two = (load_run(path, (shared, f"root={tmp_path / name}")).queue_uri("stage1", "abc") for name in "ab")
    assert one != two
    assert Path(one).parent == Path(two).parent
