"""Stages that are interrupted again and again, and the account of what that did to them."""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors.torch import load_file

from mos.model.exported import WEIGHTS, is_export
from mos.planning.sources import SourceName
from mos.training.checkpoint import newest_readable
from mos.training.sharding import EngineConfig
from pipelines.run.config import RunConfig
from pipelines.train.job import StageJob
from tests.chaos.gang import read_updates, run_gang
from tests.chaos.interruptions import KINDS, Kind, damage_newest, draw_interruption
from tests.chaos.stage import BATCH_SIZE, stage_job

NUM_STEPS = 18
WITHIN = 9
"""Updates within which a gang is interrupted."""
REORDERED = 2e-5
"""Largest difference of a weight between gangs of other sizes or engines, which add up in another order."""


@dataclass(frozen=True)
class Schedule:
    """Stages of one kind, and how their gangs change from attempt to attempt."""

    source: SourceName
    engines: tuple[EngineConfig, ...]
    """Of which each attempt draws one."""
    sizes: tuple[int, ...]
    """Numbers of ranks, likewise."""
    kinds: tuple[Kind, ...] = KINDS

    @property
    def is_exact(self) -> bool:
        """Whether the weights must be those of an unbroken stage to the last bit."""
        return len(self.engines) == len(self.sizes) == 1


@dataclass
class Account:
    """What interruptions did, over all schedules."""

    interruptions: dict[str, int] = field(default_factory=dict)
    """By kind."""
    stages: int = 0
    attempts: int = 0
    updates: int = 0
    """Done, also in vain."""
    counted: int = 0
    """Of them those that are in the final weights."""
    lost: int = 0
    """Samples that should have been trained on and were not."""
    doubled: int = 0
    """Samples that were trained on more often than they should have been."""
    differing: int = 0
    """Stages whose weights are not those of an unbroken one."""
    largest_difference: float = 0.0
    """Of a weight, where other sizes and engines add up in another order."""
    done_again_after_a_stop: int = 0
    """Most updates done twice after an end in order."""

    @property
    def num_interruptions(self) -> int:
        """Of all kinds."""
        return sum(self.interruptions.values())


def run_schedule(
    config: RunConfig, folder: Path, schedule: Schedule, seed: int, num_interruptions: int, account: Account
) -> None:
    """Interrupt stages in `folder` so many times; each is finished, then another is begun."""
    draws = random.Random(seed)
    unbroken = stage_job(config, folder / "unbroken", schedule.source, schedule.engines[0], NUM_STEPS)
    run_gang(unbroken, schedule.sizes[0], 0, None)
    goal = account.num_interruptions + num_interruptions
    while account.num_interruptions < goal:
        name = f"stage-{account.stages}"
        job = stage_job(config, folder / name, schedule.source, schedule.engines[0], NUM_STEPS)
        _train_through(job, schedule, draws, goal, account, _order(unbroken.folder))
        _compare(job.folder, unbroken.folder, schedule, account)


def _order(unbroken: Path) -> list[tuple[int, int]]:
    """Epoch and place of every step."""
    (updates,) = read_updates(unbroken)
    return sorted(updates)


def _train_through(
    job: StageJob,
    schedule: Schedule,
    draws: random.Random,
    goal: int,
    account: Account,
    order: list[tuple[int, int]],
) -> None:
    """One stage to its end."""
    number = 0
    while not is_export(job.folder / "export"):
        size, engine = draws.choice(schedule.sizes), draws.choice(schedule.engines)
        interruption = None
        if account.num_interruptions < goal:
            interruption = draw_interruption(draws, schedule.kinds, size, WITHIN)
        job = replace(job, stage=job.stage.model_copy(update={"engine": engine}))
        attempt = run_gang(job, size, number, interruption)
        number += 1
        account.attempts += 1
        if interruption is None or not attempt.struck:
            continue
        account.interruptions[interruption.kind] = account.interruptions.get(interruption.kind, 0) + 1
        if interruption.is_warned:
            reached = order.index(max(list(read_updates(job.folder))[-1])) + 1
            account.done_again_after_a_stop = max(account.done_again_after_a_stop, reached - _step(job.folder))
        if interruption.kind == "the newest checkpoint is damaged":
            damage_newest(job.folder, interruption.draw)


def _step(folder: Path) -> int:
    checkpoint = newest_readable(folder)
    return 0 if checkpoint is None else checkpoint.state.step


def _compare(folder: Path, unbroken: Path, schedule: Schedule, account: Account) -> None:
    """Join what a stage was trained on with what it should have been, and its weights with those they should be."""
    (expected,) = read_updates(unbroken)
    found: dict[tuple[int, int], list[str]] = {}
    for updates in read_updates(folder):
        account.updates += len(updates)
        found |= updates  # what an attempt did again replaces what is no longer in the weights
    account.stages += 1
    account.counted += len(expected)
    for place in expected.keys() | found.keys():
        wanted, had = expected.get(place, []), found.get(place, [])
        if had != wanted:
            account.lost += sum(had.count(sample) < wanted.count(sample) for sample in set(wanted))
            account.doubled += sum(had.count(sample) > wanted.count(sample) for sample in set(had))
    assert all(len(samples) == BATCH_SIZE for samples in expected.values())
    difference = _difference(folder, unbroken)
    account.largest_difference = max(account.largest_difference, difference)
    account.differing += difference > (0 if schedule.is_exact else REORDERED)


def _difference(folder: Path, other: Path) -> float:
    """The largest of all weights of two exports."""
    one, two = (load_file(path / "export" / WEIGHTS) for path in (folder, other))
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one if one[name].numel())
