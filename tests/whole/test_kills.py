"""Encode jobs killed with SIGKILL at seeded points, alone and two at once: no row is lost, doubled or torn."""

from pathlib import Path

from tests.kills import run_schedule


def test_no_kill_loses_doubles_or_tears_a_row(tmp_path: Path) -> None:
    ledger = run_schedule(tmp_path, seed=5, num_kills=8, num_samples=10)
    assert ledger.num_kills == 8
    assert ledger.rows > 0
    assert (ledger.lost, ledger.doubled, ledger.torn) == (0, 0, 0)
