"""How figures are measured and kept: interleaved repeats, medians, one JSON file a script and machine."""

import functools
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mos.precision import instruction_sets
from mos.watching import watching

CLONE = Path(__file__).resolve().parents[2]
RESULTS = CLONE / "tests" / "benchmarks" / "results"
LOAD_AT_START = os.getloadavg()[0]
"""Processes that ran or waited for a core, mean of the minute before the measurement."""
PACKAGES = ("torch", "ray", "pylance", "pyarrow", "transformers", "diffusers", "triton", "numpy", "pillow")
"""Distributions whose versions a row records, where installed."""


@dataclass(frozen=True)
class Row:
    """One figure, beside that of the peer it is compared with."""

    id: str
    """Stable name, for example `curate.ratio`."""
    value: float
    """Our figure: the median of the repeats."""
    unit: str
    peer: str | None = None
    """What it is compared with: another implementation, chance, or a mark."""
    peer_value: float | None = None
    """The peer's figure in the same unit, measured in the same interleaved repeats."""
    ratio: float | None = None
    """How much better than the peer (above 1 is better), whatever the unit's direction."""
    repeats: int = 1


def measure_interleaved(candidates: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 1) -> dict[str, float]:
    """Median wall seconds of each candidate; A B A B ... so that a drift of the machine hits all alike."""
    for _ in range(warmup):
        for run in candidates.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_in_fresh_process(module: str, name: str) -> float:
    """MiB that `python -m module --peak name` prints: the peak of a process that did nothing before."""
    command = [sys.executable, "-m", module, "--peak", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=CLONE).stdout)


def added_peak_mib(run: Callable[[], Any]) -> float:
    """MiB that a call adds at most to this process's resident memory."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark to what is resident now
    before = _high_water_kib()
    run()
    return (_high_water_kib() - before) / 1024


def added_anonymous_mib(run: Callable[[], Any]) -> float:
    """MiB that a call adds at most to this process's own memory, mapped files apart, looked at every 2 ms."""
    before = most = _anonymous_kib()

    def watch(ended: threading.Event) -> None:
        nonlocal most
        while not ended.wait(0.002):
            most = max(most, _anonymous_kib())

    with watching("anonymous-memory", watch):
        run()
    return (most - before) / 1024


def write_results(script: str, rows: Sequence[Row], device: str | None = None, folder: Path = RESULTS) -> Path:
    """Print the rows and keep them, as `keep_results` does."""
    print_rows(script, rows)
    path = keep_results(script, rows, device, folder)
    print(f"results: {path.relative_to(CLONE) if path.is_relative_to(CLONE) else path}")
    return path


def keep_results(script: str, rows: Sequence[Row], device: str | None = None, folder: Path = RESULTS) -> Path:
    """Write the rows to `<script>.<device>.json`; rows of other ids measured before stay.

    Args:
        script: Name of the benchmark, for example `curate`.
        rows: What was measured; figures that miss their mark belong in it too.
        device: GPU name for device figures; the CPU's name where None.
        folder: Where result files stand.
    """
    path = folder / f"{script}.{slug(device or cpu_name())}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    origin = provenance()
    fresh = [asdict(row) | origin for row in rows]
    measured = {row["id"] for row in fresh}
    folder.mkdir(parents=True, exist_ok=True)
    merged = [row for row in kept if row["id"] not in measured] + fresh
    path.write_text(json.dumps(sorted(merged, key=lambda row: row["id"]), indent=2) + "\n", encoding="utf-8")
    return path


def print_rows(script: str, rows: Sequence[Row]) -> None:
    """The rows as a table on the terminal."""
    table = Table("id", "value", "unit", "peer", "peer value", "ratio", "repeats", title=f"benchmark {script}")
    for row in rows:
        peer_value, ratio = _figure(row.peer_value), _figure(row.ratio)
        table.add_row(row.id, _figure(row.value), row.unit, row.peer or "-", peer_value, ratio, str(row.repeats))
    Console().print(table)


def provenance() -> dict[str, Any]:
    """What it takes to measure a row again: command, versions, CPU, load of the machine before, commit, date (UTC)."""
    return {
        "command": " ".join(["python", *(_relative(part) for part in sys.orig_argv[1:])]),
        "versions": {"python": platform.python_version()} | _versions(),
        "cpu": f"{cpu_name()} ({', '.join(instruction_sets())})",
        "load": round(LOAD_AT_START, 2),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def commit() -> str:
    """Hash of the checkout's commit, with `-dirty` where files differ from it; `unknown` without git or a checkout.

    Asked once a process: results that are written make the checkout differ.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return result.stdout.strip() or "unknown"


def cpu_name() -> str:
    """Model name of the processor and the number of cores, for example `Intel Xeon x2`."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    match = re.search(r"model name\s*:\s*(.+)", text)
    cores = text.count("processor\t:") or 1
    return f"{match.group(1) if match else platform.processor() or platform.machine()} x{cores}"


def slug(name: str) -> str:
    """A file-name form of a device name: lower case, words joined by dashes."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|@.*?(?= x\d|$)", "", name.lower())).strip("-")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _relative(part: str) -> str:
    path = Path(part)
    return str(path.relative_to(CLONE)) if path.is_absolute() and path.is_relative_to(CLONE) else part


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"


def _anonymous_kib() -> int:
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


def _high_water_kib() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
