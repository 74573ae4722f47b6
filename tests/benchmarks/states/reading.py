"""How fast shuffled batches of payloads come out of a table, beside the other ways to keep them; loader memory.

    python -m tests.benchmarks.states.reading        all of it, five minutes
    python -m tests.benchmarks.states.reading rss    memory alone

8 MB rows (an int4 context of a large tower) and 384 KB rows (a latent at 1024 px), all in the page cache, at most 2 GB
on disk. Speed is MB (10^6 bytes) of payload a second.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from mos.loader.prefetch import prefetch
from mos.tables.lance import latest_version
from mos.tables.payloads import PayloadTable, RowCache
from tests.benchmarks.harness import Row, measure_interleaved, write_results
from tests.benchmarks.states import read_peers as peers
from tests.benchmarks.states.read_peers import Work

LARGE = Work("read", 8_000_000, 48)
SMALL = Work("read.small", 393_216, 960)
REPEATS = 7
PARQUET_REPEATS = 3
WRITE_REPEATS = 5
RSS_SAMPLES = {SMALL: 200_000, LARGE: 2_000}
RSS_ALLOWANCE_MB = 256
WINDOWS = 10
PREFETCH = 2
"""Batches ahead: the default of training."""


def reading_rows() -> list[Row]:
    """All figures of this file."""
    rows = []
    for work in (LARGE, SMALL):
        with tempfile.TemporaryDirectory() as folder:
            rows += write_rows(work, Path(folder)) + speed_rows(work, Path(folder))
    return rows + rss_rows()


def write_rows(work: Work, folder: Path) -> list[Row]:
    """MB/s written: a blob column against `large_binary`."""
    numbers = iter(range(1000))

    def timed(write: Callable[[Work, str], object]) -> Callable[[], None]:
        def run() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                write(work, f"{place}/{next(numbers)}.lance")

        return run

    candidates = {"ours": timed(peers.write_blobs), "large_binary": timed(peers.write_large_binary)}
    speed = _speeds(measure_interleaved(candidates, WRITE_REPEATS), work.num_bytes)
    return [_row(f"{work.prefix}.write", speed, "large_binary", "large_binary, Lance 2.0", WRITE_REPEATS)]


def speed_rows(work: Work, folder: Path) -> list[Row]:
    """MB/s read: ours against every peer, interleaved; Parquet on one batch, since it takes seconds each."""
    batches, in_order = work.shuffled(), _in_order(work)
    table = peers.write_blobs(work, str(folder / "blobs.lance"))
    binary = peers.write_large_binary(work, str(folder / "binary.lance"))
    peers.write_parquet(work, folder / "rows.parquet")
    peers.write_tar(work, folder / "rows.tar")
    peers.write_flat(work, folder / "flat.bin")
    wds, read_wds = peers.read_tar(folder / "rows.tar")
    candidates = {
        "ours": peers.read_blobs(table, batches),
        "take": peers.take_large_binary(binary, batches),
        "wds": read_wds,
        "preadv": peers.read_flat(folder / "flat.bin", work, batches, 1),
        "preadv in threads": peers.read_flat(folder / "flat.bin", work, batches, peers.THREADS),
        "lance": peers.read_through_lance(table, batches),
        "ours in order": peers.read_blobs(table, in_order),
        "scan": peers.scan_large_binary(binary, work.batch),
    }
    speed = _speeds(measure_interleaved(candidates, REPEATS), work.num_bytes)
    parquet = {"parquet": peers.read_parquet_rows(folder / "rows.parquet", batches[:1])}
    speed |= _speeds(measure_interleaved(parquet, PARQUET_REPEATS), work.batch * work.row_bytes)
    fastest = max("preadv", "preadv in threads", key=lambda name: speed[name])
    name = work.prefix
    return [
        _row(f"{name}.take", speed, "take", "take of large_binary, Lance 2.0", REPEATS),
        _row(f"{name}.wds", speed, "wds", wds, REPEATS),
        _row(f"{name}.parquet", speed, "parquet", "Parquet, a random row of 16-row groups", PARQUET_REPEATS),
        _row(f"{name}.preadv", speed, fastest, f"{fastest} of one file into one buffer", REPEATS),
        _row(f"{name}.lance", speed, "lance", "Lance's read_blobs of the same table", REPEATS),
        _row(f"{name}.scan", speed | {"ours": speed["ours in order"]}, "scan", "scan of large_binary", REPEATS),
    ]


def rss_rows() -> list[Row]:
    """What loading adds to the memory of a fresh process, the batch in use included; and by how much it still grows."""
    rows = []
    for work, name in ((SMALL, "read.rss"), (LARGE, "read.rss.large")):
        with tempfile.TemporaryDirectory() as folder:
            table = peers.write_blobs(work, f"{folder}/blobs.lance")
            command = [sys.executable, "-m", "tests.benchmarks.states.reading", "--rss", work.prefix, table.uri]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(output)
        mark = 2 * work.batch * work.row_bytes / 1e6 + RSS_ALLOWANCE_MB
        unit = f"MB over {RSS_SAMPLES[work]:,} samples"
        rows.append(Row(name, found["peak_mb"], unit, "2 batches + 256 MB", mark, mark / found["peak_mb"]))
        if work is SMALL:  # a few hundred large batches are too few to tell a slope
            rows.append(Row(f"{name}.slope", found["slope_kb"], "KB per 1,000 samples, second half", "flat", 0.0))
    return rows


def load_and_print(work: Work, uri: str) -> None:
    """Read batches ahead, as training does, and print what that did to this process's memory."""
    torch.set_num_threads(1)  # a copy by two threads waits for the second, 10 ms instead of 0.2 while a core is busy
    before = _resident_mb()
    table = PayloadTable(latest_version(uri), ["num_tokens"], RowCache(0))
    batches = [rows for rows in work.shuffled() if len(rows) == work.batch]
    seen = [_resident_mb() for _ in prefetch(partial(_batch, table), _endless(batches, RSS_SAMPLES[work]), PREFETCH)]
    # Medians, since a batch more or less is alive at the moment of looking.
    half = [float(np.median(window)) for window in np.array_split(seen[len(seen) // 2 :], WINDOWS)]
    thousands = np.arange(WINDOWS) * RSS_SAMPLES[work] / 2 / WINDOWS / 1000
    slope = float(np.polyfit(thousands, half, 1)[0]) * 1000
    print(json.dumps({"peak_mb": max(seen) - before, "slope_kb": slope}))


def _batch(table: PayloadTable, rows: list[int]) -> torch.Tensor:
    """One tensor of all payloads, as codecs concatenate them."""
    return torch.cat([torch.frombuffer(payload, dtype=torch.uint8) for payload in table.payloads(rows)])


def _endless(batches: list[list[int]], samples: int) -> Iterator[list[int]]:
    return islice(cycle(batches), samples // len(batches[0]))


def _in_order(work: Work) -> list[list[int]]:
    rows = range(work.num_rows)
    return [list(rows[start : start + work.batch]) for start in range(0, work.num_rows, work.batch)]


def _speeds(seconds: dict[str, float], num_bytes: int) -> dict[str, float]:
    return {name: num_bytes / 1e6 / value for name, value in seconds.items()}


def _row(name: str, speed: dict[str, float], peer: str, title: str, repeats: int) -> Row:
    return Row(name, speed["ours"], "MB/s", title, speed[peer], speed["ours"] / speed[peer], repeats)


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024 / 1e6


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rss"]:
        load_and_print({work.prefix: work for work in RSS_SAMPLES}[sys.argv[2]], sys.argv[3])
    else:
        write_results("states", rss_rows() if sys.argv[1:] == ["rss"] else reading_rows())
