"""One attempt of a gang: a process for each rank, what each trained on, and the interruption that ends it."""

import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from mos.loader.batch import Batch
from mos.training import loop
from pipelines.train.job import StageJob
from pipelines.train.worker import train_worker
from tests.chaos.interruptions import Interruption, arm, strike, updated
from tests.chaos.stage import produced
from tests.mos.training.gloo import process_group

LAST_S = 180.0
"""An attempt that takes longer hangs."""
OTHERS_S = 10.0
"""What is left of a gang so long after its first rank was lost is ended, as Ray does it."""


class HungGangError(AssertionError):
    """A gang that neither ended nor was lost."""


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt."""

    ended: bool
    """All ranks left in order."""
    struck: bool
    """The interruption came."""


def run_gang(job: StageJob, num_ranks: int, number: int, interruption: Interruption | None) -> Attempt:
    """Train in the stage's folder until the stage is done or the interruption has ended the gang.

    Raises:
        HungGangError: it does neither.
        RuntimeError: it ends by itself though nothing happened to it.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.chaos.gang", "deepspeed", "transformers"])
    folder = job.folder / "attempts" / f"{number:04d}"
    folder.mkdir(parents=True)
    (job.folder / "stop").unlink(missing_ok=True)
    ours, theirs = context.Pipe(duplex=False)
    arguments = (num_ranks, folder, job, interruption, theirs)
    ranks = [context.Process(target=_run_rank, args=(rank, *arguments)) for rank in range(num_ranks)]
    with produced(job):
        for process in ranks:
            process.start()
        theirs.close()
        struck = _see_it_end(ranks, ours, job, interruption)
    codes = [process.exitcode for process in ranks]
    if any(codes) and not struck:
        raise RuntimeError(f"attempt {number} of {job.folder} ended with {codes}: {_errors(folder)}")
    return Attempt(not any(codes), struck)


def _see_it_end(ranks: list[BaseProcess], told: Connection, job: StageJob, interruption: Interruption | None) -> bool:
    """Strike when a rank says where it is, and wait for the gang's end; returns whether it was struck."""
    deadline, struck = time.monotonic() + LAST_S, False
    while any(process.is_alive() for process in ranks):
        lost = [process for process in ranks if process.exitcode]
        if lost:
            deadline = min(deadline, time.monotonic() + OTHERS_S)
        ready = wait([*([] if told.closed else [told]), *(p.sentinel for p in ranks if p.is_alive())], timeout=0.2)
        if told in ready:
            try:
                told.recv()
            except EOFError:
                told.close()
                continue
            assert interruption is not None
            strike(interruption, [process.pid for process in ranks if process.pid], job.folder)
            struck = True
        if time.monotonic() > deadline:
            hung = not lost
            for process in ranks:
                process.kill()
            if hung:
                raise HungGangError(f"{job.folder}: {interruption} and nothing happens")
    for process in ranks:
        process.join()
    return struck or (interruption is not None and any(process.exitcode for process in ranks))


def _run_rank(
    rank: int, num_ranks: int, folder: Path, job: StageJob, interruption: Interruption | None, parent: Connection
) -> None:
    output = os.open(folder / f"rank-{rank}.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    _note_updates(folder / f"rank-{rank}.jsonl", rank, interruption, parent)
    if interruption is not None:
        arm(interruption, rank, parent)
    try:
        with process_group(rank, num_ranks, folder / "rendezvous"):
            train_worker(job, torch.device("cpu"))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)  # as a worker whose process Ray ends: nothing is closed in order


def _note_updates(path: Path, rank: int, interruption: Interruption | None, parent: Connection) -> None:
    """Append to a file what each update of this process was made of, when it is done."""
    original, num_updates, descriptor = loop.update, 0, os.open(path, os.O_CREAT | os.O_WRONLY)

    @wraps(original)
    def noted(engine: Any, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        nonlocal num_updates
        result = original(engine, batch, *args, **kwargs)
        num_updates += 1
        line = {"epoch": batch.epoch, "place": batch.step, "samples": [_digest(batch, n) for n in range(len(batch))]}
        with suppress(OSError):
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        if interruption is not None:
            updated(interruption, rank, num_updates, parent)
        return result

    loop.update = noted


def _digest(batch: Batch, number: int) -> str:
    """A sample as it was trained on: picture, noise, timestep and length of its context."""
    parts = (
        batch.latents[number],
        batch.noise[number],
        batch.timesteps[number],
        batch.context.layout.offsets.diff()[number],
    )
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:16]


def read_updates(folder: Path) -> Iterator[dict[tuple[int, int], list[str]]]:
    """For each attempt in a stage's folder, samples of all ranks by epoch and place, in the order of the ranks."""
    for attempt in sorted((folder / "attempts").iterdir()):
        updates: dict[tuple[int, int], list[str]] = {}
        for path in sorted(attempt.glob("rank-*.jsonl")):
            for text in path.read_text(encoding="utf-8").splitlines():
                line = json.loads(text)
                updates.setdefault((line["epoch"], line["place"]), []).extend(line["samples"])
        yield updates


def _errors(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8")[-3000:] for path in sorted(folder.glob("rank-*.txt")))
