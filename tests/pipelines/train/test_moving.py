"""A gang leaves nodes that are taken away, once for each, and nothing else makes it leave."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mos.checkout import CLONE
from mos.training.stop import StopRequest
from pipelines.train.moving import Moves


def test_a_gang_leaves_a_drained_node_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = StopRequest(tmp_path)
    moves = Moves(request)
    moves.look("stage1", {"a": "node-1"}, {"a", "b"})
    assert not request.is_asked()  # nothing is lost before it trains
    request.enter()
    moves.look("stage1", {"c": "node-3"}, {"a", "b"})
    assert not request.is_asked()  # another's node
    moves.look("stage1", {"a": "node-1"}, {"a", "b"})
    assert request.is_asked()
    assert moves.take()
    assert not request.is_asked()
    assert not moves.take()
    request.enter()
    moves.look("stage1", {"a": "node-1"}, {"a", "b"})
    assert not request.is_asked()  # it went on there, since there is room nowhere else
    moves.look("stage1", {"a": "node-7", "b": "node-2"}, {"a", "b"})
    assert request.is_asked()
    assert capsys.readouterr().out.count("about to be taken away") == 2


def test_a_user_who_stops_is_not_overruled(tmp_path: Path) -> None:
    request = StopRequest(tmp_path)
    request.enter()
    request.ask()
    moves = Moves(request)
    moves.look("stage1", {"a": "node-1"}, {"a"})
    assert not moves.take()
    assert request.is_asked()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stage_moves_to_another_node_and_does_nothing_twice() -> None:
    script = CLONE / "tests" / "pipelines" / "drained_run.py"
    environment = os.environ | {"PYTHONPATH": str(CLONE)}
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=500, env=environment)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "goes on where there is room" in ran.stdout
    first, second = map(int, re.search(r"gangs began (\d+) (\d+)$", ran.stdout, re.MULTILINE).groups())
    assert first == 0
    assert second > 0
    updates, saved = (int(re.search(rf"{name} (\d+)$", ran.stdout, re.MULTILINE)[1]) for name in ("in all", "at step"))
    assert updates == saved > second
