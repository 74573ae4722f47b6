"""What two hundred seeded interruptions of training leave behind: samples lost or doubled, weights, work done again.

    python -m tests.benchmarks.chaos [<folder>]

Nine kinds of interruption, three sources of states, two engines, one, two and four ranks; Ray alone is left out (see
`tests.chaos`). A folder that is given keeps each schedule's account: started again, what is there is not run anew.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from mos.model.exported import is_export
from mos.training.precision import PrecisionConfig
from mos.training.sharding import EngineConfig, Fsdp2Config, ZeroConfig
from pipelines.run.config import RunConfig
from tests.benchmarks.harness import Row, write_results
from tests.chaos.gang import read_updates, run_gang
from tests.chaos.interruptions import Interruption
from tests.chaos.schedule import Account, Schedule, run_schedule
from tests.chaos.stage import encoded_config, stage_job

FLOAT32 = PrecisionConfig(compute="float32")
FSDP2 = Fsdp2Config(precision=FLOAT32)
ZERO1, ZERO2, ZERO3 = (ZeroConfig(stage=stage, precision=FLOAT32) for stage in (1, 2, 3))
EVERY: tuple[EngineConfig, ...] = (FSDP2, ZERO1, ZERO2, ZERO3)
SCHEDULES = {
    "cache, fsdp2, 2 ranks": Schedule("cache", (FSDP2,), (2,)),
    "cache, zero 2, 2 ranks": Schedule("cache", (ZERO2,), (2,)),
    "cache, fsdp2, changing ranks": Schedule("cache", (FSDP2,), (1, 2, 4)),
    "cache, changing engines and ranks": Schedule("cache", EVERY, (1, 2, 4)),
    "stream, fsdp2, 2 ranks": Schedule("stream", (FSDP2,), (2,)),
    "stream, zero 2, 2 ranks": Schedule("stream", (ZERO2,), (2,)),
    "stream, changing engines and ranks": Schedule("stream", EVERY, (1, 2, 4)),
    "recompute, fsdp2, 4 ranks": Schedule("recompute", (FSDP2,), (4,)),
    "recompute, zero 3, 1 rank": Schedule("recompute", (ZERO3,), (1,)),
    "recompute, changing engines and ranks": Schedule("recompute", EVERY, (1, 2, 4)),
}
EACH = 20
"""Interruptions of a schedule."""
LONG, BETWEEN = 200, 50
"""Updates of a longer stage, and how many a gang does before it is killed."""


def kept_share(config: RunConfig, folder: Path) -> float:
    """Share of the updates that counted, where a gang is killed after every 50 and writes checkpoints after every 4."""
    job, number = stage_job(config, folder, "cache", FSDP2, LONG), 0
    while not is_export(job.folder / "export"):
        kill = Interruption("the gang is killed", rank=0, after=BETWEEN, delay_s=0.0, draw=0.0)
        run_gang(job, 2, number, kill)
        number += 1
    return LONG / sum(len(updates) for updates in read_updates(job.folder))


def account_of(number: int, name: str, folder: Path, config: RunConfig) -> Account:
    """What became of the stages of one schedule; from its file where it is there."""
    path = folder / f"{number}.json"
    if not path.is_file():
        account = Account()
        run_schedule(config, folder / str(number), SCHEDULES[name], number, EACH, account)
        path.write_text(json.dumps(asdict(account)), encoding="utf-8")
        print(f"{name}: {account}", flush=True)
    return Account(**json.loads(path.read_text(encoding="utf-8")))


def rows(folder: Path) -> list[Row]:
    """Of all schedules together."""
    config = encoded_config(Path(tempfile.mkdtemp(dir=folder)) / "run")
    accounts = [account_of(number, name, folder, config) for number, name in enumerate(SCHEDULES)]
    kept = kept_share(config, Path(tempfile.mkdtemp(dir=folder)))
    num = sum(account.num_interruptions for account in accounts)
    unit, peer = f"after {num} interruptions", "mark"
    again = max(account.done_again_after_a_stop for account in accounts)
    return [
        Row("chaos.lost", sum(a.lost for a in accounts), f"samples lost {unit}", peer, 0.0, None, num),
        Row("chaos.doubled", sum(a.doubled for a in accounts), f"samples doubled {unit}", peer, 0.0, None, num),
        Row("chaos.weights", sum(a.differing for a in accounts), f"stages that differ {unit}", peer, 0.0, None, num),
        Row("chaos.difference", max(a.largest_difference for a in accounts), "of a weight, gangs that change"),
        Row("chaos.wasted", again, "updates done twice after a stop in order", peer, 2.0),
        Row("chaos.kept", kept, f"of the updates counted, a kill every {BETWEEN}", peer, 0.95, kept / 0.95),
    ]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        write_results("chaos", rows(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            write_results("chaos", rows(Path(temporary)))
