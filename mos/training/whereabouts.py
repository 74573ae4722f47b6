"""Where every rank of a gang is, and the end of a gang that hangs: with the names of the ranks that it waits for.

A collective that one rank does not enter keeps all others waiting, and none of them knows for whom. Every rank
therefore leaves a small file in the stage's folder, written by a thread of its own:

    ranks/rank-00003.json    step, what it does there, when it was last heard of, process and host

A rank that does not get on for `hung_after_s` reads all of them. Those behind the others are named, the process ends,
and whoever started the gang starts it again from its last checkpoint.
"""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch.distributed as dist

from mos.files import written_whole
from mos.training.appended import records_of
from mos.training.notices import Notices
from mos.watching import watching

Doing = Literal["starting", "reading a batch", "updating", "writing a checkpoint", "looking at the average", "ending"]
"""Parts of a step in the order in which ranks go through them, between a beginning and an end."""
ORDER: tuple[Doing, ...] = get_args(Doing)
BEAT_S = 10.0
"""Seconds between signs of life, at most."""
SILENT_BEATS = 4
"""A rank is silent after so many that did not come."""
EXIT_CODE = 70
"""Of a process that ends because its gang hangs."""


@dataclass(frozen=True)
class Place:
    """One rank, as it was last heard of."""

    rank: int
    step: int
    """Updates done."""
    doing: Doing
    since: float
    """When it began that, in seconds since 1970."""
    heard: float
    """When this was written, likewise: older than a few beats if the process hangs, or is gone."""
    host: str
    pid: int

    @property
    def reached(self) -> tuple[int, int]:
        """What tells who is behind whom."""
        return self.step, ORDER.index(self.doing)

    @property
    def name(self) -> str:
        """Rank, host and process."""
        return f"rank {self.rank} ({self.host}, process {self.pid})"

    def text(self, now: float) -> str:
        """Name and place, for people."""
        return f"{self.name}, {self.doing} after step {self.step} for {now - self.since:.0f} s"


class Whereabouts:
    """Place of this rank, told by the training loop and watched by a thread."""

    def __init__(self, folder: Path, hung_after_s: float) -> None:
        """`folder` is the stage's; see `watched`."""
        self._folder = folder / "ranks"
        self._hung_after_s = hung_after_s
        self._notices = Notices(folder)
        self._rank = dist.get_rank()
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._beat_s = min(BEAT_S, hung_after_s / (2 * SILENT_BEATS))
        self._at: tuple[int, Doing, float] = (0, "starting", time.time())

    def at(self, step: int, doing: Doing) -> None:
        """This rank has come so far. Costs nothing: the thread writes it."""
        self._at = (step, doing, time.time())

    def watch(self, ended: threading.Event) -> None:
        """Write signs of life until the event is set; ends the process where it does not get on."""
        while True:
            place = self._place()
            self._write(place)
            if place.heard - place.since > self._hung_after_s:
                self._leave()
            if ended.wait(self._beat_s):
                return

    def _place(self) -> Place:
        step, doing, since = self._at
        return Place(self._rank, step, doing, since, time.time(), self._host, self._pid)

    def _write(self, place: Place) -> None:
        with suppress(OSError), written_whole(self._folder / file_name(place.rank)) as partial:
            partial.write_text(json.dumps(asdict(place)), encoding="utf-8")

    def _leave(self) -> None:
        now = time.time()
        places = read_places(self._folder.parent)
        silent = now - SILENT_BEATS * self._beat_s
        with suppress(OSError):  # said by whoever comes first: the others fail when it is gone
            (self._folder / "hangs").touch(exist_ok=False)
            self._notices.say(f"{hang_text(ranks_behind(places, silent), now, silent)}: the gang ends and starts again")
        os._exit(EXIT_CODE)


@contextmanager
def watched(folder: Path, hung_after_s: float) -> Iterator[Whereabouts]:
    """Watch this rank for the duration of the block.

    Args:
        folder: of the stage, which all ranks see.
        hung_after_s: seconds without a new step, or part of one, after which the process ends.
    """
    ranks = folder / "ranks"
    if dist.get_rank() == 0:
        shutil.rmtree(ranks, ignore_errors=True)
        ranks.mkdir(parents=True, exist_ok=True)
    dist.barrier()
    whereabouts = Whereabouts(folder, hung_after_s)
    with watching("whereabouts", whereabouts.watch):
        yield whereabouts


def file_name(rank: int) -> str:
    """Name of a rank's file."""
    return f"rank-{rank:05d}.json"


def read_places(folder: Path) -> list[Place]:
    """Places of all ranks of the gang that trains, or trained last, in a stage's folder."""
    places: list[Place] = []
    for path in sorted((folder / "ranks").glob("rank-*.json")):
        with suppress(OSError):
            places += records_of([path.read_bytes()], Place)
    return places


def ranks_behind(places: list[Place], silent_since: float) -> list[Place]:
    """Ranks that the others wait for: those not heard of since a time, or else those that came least far.

    None where all are at one place: they hang together, as where a link or a store fails.
    """
    silent = [place for place in places if place.heard < silent_since]
    if silent:
        return silent
    last = min((place.reached for place in places), default=(0, 0))
    behind = [place for place in places if place.reached == last]
    return behind if len(behind) < len(places) else []


def hang_text(behind: list[Place], now: float, silent_since: float) -> str:
    """What hangs, in one clause."""
    if not behind:
        return "training hangs, and all ranks are at the same place: look at the network and the storage"
    told = [
        place.text(now) if place.heard >= silent_since else f"{place.name}, last heard of {now - place.heard:.0f} s ago"
        for place in behind[:8]
    ]
    more = f" and {len(behind) - 8} more" if len(behind) > 8 else ""
    return f"training hangs, all wait for: {'; '.join(told)}{more}"
