"""A stage that is interrupted in every way, on gangs of one size and of several, ends as one that never was.

The long version is `python -m tests.benchmarks.chaos`.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest

from mos.training.precision import PrecisionConfig
from mos.training.sharding import EngineConfig, Fsdp2Config, ZeroConfig
from tests.chaos.schedule import Account, Schedule, run_schedule
from tests.chaos.stage import encoded_config

FLOAT32 = PrecisionConfig(compute="float32")
FSDP2 = Fsdp2Config(precision=FLOAT32)
SEVERAL: tuple[EngineConfig, ...] = (
    (FSDP2, ZeroConfig(stage=2, precision=FLOAT32)) if find_spec("deepspeed") else (FSDP2,)
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory):
    return encoded_config(tmp_path_factory.mktemp("chaos") / "run")


@pytest.mark.parametrize(
    ("schedule", "num"),
    [
        (Schedule("cache", (FSDP2,), (2,)), 4),
        (Schedule("stream", SEVERAL, (1, 2)), 4),
        (Schedule("recompute", (FSDP2,), (1,)), 2),
    ],
    ids=("cache", "stream", "recompute"),
)
def test_interruptions_change_nothing(config, tmp_path: Path, schedule: Schedule, num: int) -> None:
    account = Account()
    run_schedule(config, tmp_path, schedule, seed=len(schedule.source), num_interruptions=num, account=account)
    assert account.num_interruptions == num
    assert account.updates > account.counted
    assert (account.lost, account.doubled, account.differing) == (0, 0, 0)


def test_a_rank_that_hangs_is_named_and_a_stop_costs_nothing(config, tmp_path: Path) -> None:
    account = Account()
    for kind in ("a rank hangs", "the gang is told to stop"):
        schedule = Schedule("cache", (FSDP2,), (2,), (kind,))
        run_schedule(config, tmp_path / kind, schedule, seed=1, num_interruptions=1, account=account)
    assert account.interruptions == {"a rank hangs": 1, "the gang is told to stop": 1}
    assert (account.lost, account.doubled, account.differing) == (0, 0, 0)
    assert account.done_again_after_a_stop <= 2
    said = "".join(path.read_text() for path in (tmp_path / "a rank hangs").rglob("notices/*.log"))
    assert ", last heard of " in said
