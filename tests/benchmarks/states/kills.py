"""What 50 seeded kills of encode jobs leave behind: rows `kill.lost`, `kill.doubled` and `kill.torn`.

    python -m tests.benchmarks.states.kills

Most kills hit jobs without Ray (`tests.kills`), two at a time every other time; the others hit the encode script
itself: its driver, which is started again, or one of its actors, which Ray replaces.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipelines.run.config import load_run
from pipelines.run.steps import StepLedger
from tests.benchmarks.harness import CLONE, Row, write_results
from tests.kills import Ledger, hash_rows, inspect_tables, make_run, run_schedule, run_unbroken, tables_of

SEED = 20
KILLS_OF_JOBS = 44
KILLS_OF_DRIVERS, KILLS_OF_ACTORS = 3, 3
NUM_SAMPLES = 120
"""Of a run under Ray: its actors take seconds over them."""
TIMEOUT_S = 240


def kill_rows() -> list[Row]:
    """The three rows; each is a number of rows out of all that finished tables were to have."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = run_schedule(Path(folder, "jobs"), SEED, KILLS_OF_JOBS)
        kill_under_ray(Path(folder, "ray"), random.Random(SEED), ledger)
    print(f"{ledger.num_kills} kills in {ledger.runs} runs, {ledger.rows} rows: {ledger.kills}", flush=True)
    counts = {"kill.lost": ledger.lost, "kill.doubled": ledger.doubled, "kill.torn": ledger.torn}
    return [Row(name, count, "rows", "mark", 0, None, ledger.num_kills) for name, count in counts.items()]


def kill_under_ray(folder: Path, random_: random.Random, ledger: Ledger) -> None:
    """Kill drivers and actors of the encode script; every run is finished by its last start."""
    reference_path = make_run(folder / "reference", NUM_SAMPLES)
    run_unbroken(reference_path)
    reference = {kind: hash_rows(uri) for kind, uri in tables_of(reference_path).items()}
    path = make_run(folder / "drivers", NUM_SAMPLES)
    for _ in range(KILLS_OF_DRIVERS):
        start_and_kill_driver(path, random_, ledger)
        inspect_tables(path, reference, ledger, done=False)
    finish(path, ledger)
    inspect_tables(path, reference, ledger, done=True)
    for number in range(KILLS_OF_ACTORS):
        path = make_run(folder / f"actors{number}", NUM_SAMPLES)
        start_and_kill_actor(path, random_, ledger)
        inspect_tables(path, reference, ledger, done=True)


def start_and_kill_driver(path: Path, random_: random.Random, ledger: Ledger) -> None:
    """Kill the script once its actors have written some more fragments, and what it leaves of its own Ray."""
    run = start(path, ledger)
    goal = fragments_written(path) + random_.randrange(1, 8)
    wait_until(lambda: fragments_written(path) >= goal or run.poll() is not None)
    time.sleep(random_.random() * 0.05)
    family = descendants(run.pid)
    run.kill()
    if run.wait() == -signal.SIGKILL:
        count(ledger, "driver under Ray")
    for pid in family:
        kill_if_alive(pid)


def start_and_kill_actor(path: Path, random_: random.Random, ledger: Ledger) -> None:
    """Kill an actor that encodes; the script must get to its end by itself."""
    run = start(path, ledger)
    goal = random_.randrange(1, 8)
    wait_until(lambda: fragments_written(path) >= goal or run.poll() is not None)
    actors = [pid for pid in descendants(run.pid) if "MapBatches(Encode" in command_line(pid)]
    if actors:
        kill_if_alive(random_.choice(actors))
        count(ledger, "actor under Ray")
    if run.wait(TIMEOUT_S) != 0:
        raise RuntimeError(f"the encode step of {path} did not survive the loss of an actor")


def finish(path: Path, ledger: Ledger) -> None:
    """Run the script to its end."""
    if start(path, ledger).wait(TIMEOUT_S) != 0 or not StepLedger(load_run(path).root).records("encode"):
        raise RuntimeError(f"the encode step of {path} did not finish after its kills")


def start(path: Path, ledger: Ledger) -> subprocess.Popen:
    """The encode script, in fragments of two rows."""
    ledger.runs += 1
    command = [sys.executable, str(CLONE / "pipelines/encode.py"), str(path), "rows_per_fragment=2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def fragments_written(path: Path) -> int:
    """Data files of the run's tables, committed or not."""
    folder = Path(load_run(path).tables_folder())
    return sum(1 for kind in ("states", "latents") for _ in folder.glob(f"{kind}/*/data/*.lance"))


def count(ledger: Ledger, point: str) -> None:
    """One more kill."""
    ledger.kills[point] = ledger.kills.get(point, 0) + 1


def wait_until(condition) -> None:
    """Look every 10 ms."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the encode script did nothing")
        time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and theirs."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def command_line(pid: int) -> str:
    """How a process calls itself."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def kill_if_alive(pid: int) -> None:
    """SIGKILL."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    write_results("states", kill_rows())
