"""Encode jobs that are killed with SIGKILL at seeded points, and the ledger that tells what became of their rows.

A job is a process that runs the encode step's own functions, operators and committers, on real tables, with a tiny
tower; only Ray is left out, so that a job takes a fraction of a second. It tells its parent when it enters the point
where it is to die, and the parent kills it a moment later, while it is inside Lance or just before or after.
"""

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import wraps
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from mos.encoders.load import describe_codec, describe_tower
from mos.tables import append_once
from mos.tables import committer as encoded
from mos.tables.committer import Committer
from mos.tables.encode_plan import Tasks
from mos.tables.journal import Journal
from mos.tables.lance import TableVersion, open_table
from operators.encode_latents import EncodeLatents
from operators.encode_states import EncodeStates
from pipelines import encode
from pipelines.run.config import RunConfig, load_run
from pipelines.run.states_table import current_codec
from pipelines.run.steps import Run
from tests.pipelines.tiny_run import LLAMA, tiny_config
from tests.samples import Pair, append_samples, picture
from tests.towers import save_llama

POINTS: dict[str, tuple[Any, str, float]] = {
    "encode a fragment": (EncodeStates, "_write", 0.02),
    "write a fragment": (encoded, "write_rows", 0.015),
    "note a fragment": (Journal, "add", 0.003),
    "commit": (append_once, "append_fragments", 0.03),
    "leave out rows": (append_once, "without", 0.03),
    "forget committed fragments": (Journal, "remove", 0.005),
}
"""Where a job may die: what it enters, and for about how long (s) it is there."""

STALL_S = 0.4
"""Long enough for another job to commit."""
COLOURS = ("red", "green", "blue", "yellow", "black", "pink")
WORDS = ("circle", "square", "two", "left", "right", "photo")


@dataclass(frozen=True)
class Kill:
    """When a job dies."""

    point: str
    """Key of POINTS."""
    occurrence: int
    """How many times the point is passed first."""
    delay_s: float
    """From entering it to the signal."""
    stall_s: float
    """How long the job is stopped (SIGSTOP) before that, while another one beside it goes on."""
    lethal: bool
    """Whether there is a kill at all, after the stop."""


@dataclass
class Ledger:
    """What became of the rows."""

    kills: dict[str, int] = field(default_factory=dict)
    """Kills by point."""
    runs: int = 0
    """Jobs started, killed or not."""
    rows: int = 0
    """Rows that were to be in the finished tables."""
    lost: int = 0
    """Rows that a finished table lacks."""
    doubled: int = 0
    """Rows more than keys, in any version that a reader could see after a kill."""
    torn: int = 0
    """Rows whose content is not that of an unbroken run, in any such version."""

    @property
    def num_kills(self) -> int:
        """Over all points."""
        return sum(self.kills.values())


def draw_kill(random_: random.Random) -> Kill:
    """A point, which passing of it, and a moment inside it."""
    point = random_.choice(list(POINTS))
    stall_s = random_.choice((0.0, STALL_S))
    delay_s = random_.random() * 1.3 * POINTS[point][2]
    return Kill(point, random_.randrange(4), delay_s, stall_s, lethal=not stall_s or random_.random() < 0.5)


def make_run(folder: Path, num_samples: int) -> Path:
    """A curated run with a tiny tower; returns its config."""
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "a.png").write_bytes(picture("red"))
    tower = f"encode.tower={{type='llama', path='{save_llama(folder / 'tower')}', dtype='float32'}}"
    path = tiny_config(folder, *LLAMA, tower, "encode.fragments_per_commit=2", "encode.actors.max=2")
    config = load_run(path)
    pairs = [
        Pair(f"a {COLOURS[n % 6]} {WORDS[n // 6 % 6]} {n}", COLOURS[n % 6], buckets=("32x32", None))
        for n in range(num_samples)
    ]
    samples = append_samples(Path(config.tables_folder()), pairs)
    Run(config).step("curate").finish({"identity": str(num_samples), "samples": asdict(samples)})
    return path


def encode_without_ray(config: RunConfig, rows_per_fragment: int) -> tuple[TableVersion, TableVersion]:
    """The encode step, its operators called one fragment after another in this process."""
    samples = TableVersion(**Run(config).require("curate").outputs["samples"])
    tower, codec = describe_tower(config.encode.tower), describe_codec(config.encode.vae)
    state_codec = current_codec(config, tower)
    assert state_codec is not None
    states, latents = encode.open_tables(config, tower, state_codec, codec)

    def run(name: str, operator: type, tasks: Tasks, committer: Committer) -> TableVersion:
        todo = encode.missing(name, tasks, committer).table()
        committer.expect(todo.column(0).to_pylist())
        actor = operator(config.encode, samples, committer.table.uri, config.curate.image) if todo.num_rows else None
        for start in range(0, todo.num_rows, rows_per_fragment):
            for written in actor(todo.slice(start, rows_per_fragment)):
                committer.add(written.to_pylist())
        return committer.finish()

    with encode.plan_of(config, samples, tower, codec) as plan:
        return run("states", EncodeStates, plan.contexts, states), run("latents", EncodeLatents, plan.latents, latents)


def run_job(config_path: Path, rows_per_fragment: int, kill: Kill | None, parent: Connection) -> None:
    """What a job's process does."""
    with open(os.devnull, "w") as silence:
        os.dup2(silence.fileno(), 1)
    torch.set_num_threads(1)
    if kill is not None:
        _tell_at(kill, parent)
    encode_without_ray(load_run(config_path), rows_per_fragment)


def run_schedule(folder: Path, seed: int, num_kills: int, num_samples: int = 20) -> Ledger:
    """Kill jobs until `num_kills` have died; each table is finished by a job left alone, then a new one is begun.

    Half of the time two jobs over the same input run at once, cut into different fragments.
    """
    random_ = random.Random(seed)
    ledger = Ledger()
    reference_path = make_run(folder / "reference", num_samples)
    run_unbroken(reference_path)
    reference = {name: hash_rows(table) for name, table in tables_of(reference_path).items()}
    while ledger.num_kills < num_kills:
        path = make_run(folder / f"run{ledger.runs}", num_samples)
        done = False
        while not done:
            kills = [draw_kill(random_) for _ in range(random_.choice((1, 2)))]
            if ledger.num_kills >= num_kills:
                kills = [None, None]
            done = run_together(path, kills, random_, ledger)
            inspect_tables(path, reference, ledger, done)
    return ledger


def run_together(path: Path, kills: list[Kill | None], random_: random.Random, ledger: Ledger) -> bool:
    """Run one job for each kill at the same time; returns whether one of them got to its end."""
    fragments = [random_.choice((2, 3, 5)) for _ in kills]
    with ThreadPoolExecutor(len(kills)) as pool:
        finished = [
            pool.submit(_run_and_kill, path, size, kill, ledger) for size, kill in zip(fragments, kills, strict=True)
        ]
    return max(job.result() for job in finished)


def run_unbroken(path: Path) -> None:
    """A job that nobody kills."""
    _run_and_kill(path, 5, None, Ledger())


def tables_of(path: Path) -> dict[str, str]:
    """The uris of a run's encoded tables that exist by now, by kind."""
    folder = Path(load_run(path).tables_folder())
    found = {kind: sorted((folder / kind).glob("*.lance")) for kind in ("states", "latents")}
    return {kind: str(paths[0]) for kind, paths in found.items() if paths and (paths[0] / "_versions").is_dir()}


def hash_rows(uri: str) -> dict[str, list[str]]:
    """Content hashes of all rows by key, from the newest version of a table."""
    rows: dict[str, list[str]] = {}
    dataset = open_table(uri)
    for row in dataset.scanner(blob_handling="all_binary").to_table().to_pylist():
        content = repr(sorted(row.items())).encode()
        rows.setdefault(row[dataset.schema.names[0]], []).append(hashlib.sha256(content).hexdigest())
    return rows


def inspect_tables(path: Path, reference: dict[str, dict[str, list[str]]], ledger: Ledger, done: bool) -> None:
    """Join the tables with the reference by key and content hash."""
    present = {kind: hash_rows(uri) for kind, uri in tables_of(path).items()}
    for kind, expected in reference.items():
        rows = present.get(kind, {})
        ledger.doubled += sum(len(hashes) - 1 for hashes in rows.values())
        ledger.torn += sum(hash_ not in expected.get(key, ()) for key, hashes in rows.items() for hash_ in hashes)
        if done:
            ledger.rows += len(expected)
            ledger.lost += len(expected.keys() - rows.keys())


def _run_and_kill(path: Path, rows_per_fragment: int, kill: Kill | None, ledger: Ledger) -> bool:
    """Run one job; returns whether it got to its end."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run_job, args=(path, rows_per_fragment, kill, theirs))
    process.start()
    theirs.close()
    try:
        ours.recv()
    except EOFError:
        pass  # it never came to the point and ended by itself
    else:
        if kill.stall_s:
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(kill.stall_s)
            os.kill(process.pid, signal.SIGCONT)
        time.sleep(kill.delay_s)
        if kill.lethal:
            process.kill()
    process.join()
    ledger.runs += 1
    if process.exitcode == -9:
        ledger.kills[kill.point] = ledger.kills.get(kill.point, 0) + 1
    elif process.exitcode != 0:
        raise RuntimeError(f"a job failed on its own with status {process.exitcode}")
    return process.exitcode == 0


def _tell_at(kill: Kill, parent: Connection) -> None:
    """Send a byte to the parent when the point is entered for the given time."""
    owner, name, _ = POINTS[kill.point]
    original: Callable = getattr(owner, name)
    passed = 0

    @wraps(original)
    def entered(*args: Any, **kwargs: Any) -> Any:
        nonlocal passed
        if passed == kill.occurrence:
            parent.send(b"x")
        passed += 1
        return original(*args, **kwargs)

    setattr(owner, name, entered)
