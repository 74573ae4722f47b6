"""Bookkeeping as a table grows: a driver's memory and seconds for a million samples, a rank's index and plan.

    python -m tests.benchmarks.scale [rows ...]     two numbers or more, 1e5 and 1e6 unless told; 1e7 takes 5 GB
    python -m tests.benchmarks.scale --curate rows ...     curation alone, which needs no encodings: 1e7 take 6 GB
    python -m tests.benchmarks.scale --plan         the plan of a hundred million rows: 2 GB of disk

Every figure is of a fresh process; memory is its peak above what it had when the step began. Tables are synthetic
(`scale_tables.py`): light columns, no payloads. Seconds are those of the clock and, as `cpu`, those of all threads,
which other work on the machine leaves alone. Peers are the same steps row by row in memory (`tests/mos/**/plain_*.py`),
at the smallest number of rows.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from mos.curation.manifest import manifest_of, marks_schema
from mos.curation.tables import CurationOutputs, add_marks, open_sample_tables
from mos.loader.cells import CellRows, sort_into_cells
from mos.loader.columns import map_column, new_column
from mos.loader.index import EncodedTables, SampleIndex
from mos.loader.join import build_index
from mos.loader.plan import make_plan
from mos.tables.encode_plan import planned
from mos.tables.expected import SortedKeys
from mos.tables.lance import latest_version, read_column
from mos.tables.task_table import task_table
from tests.benchmarks.harness import CLONE, Row, added_anonymous_mib, added_peak_mib, write_results
from tests.benchmarks.scale_tables import CODEC, RESOLUTIONS, views, write_encodings, write_marks, write_samples
from tests.mos.loader.plain_index import plain_index
from tests.mos.tables.plain_tasks import plain_contexts, plain_latents

ROWS = (100_000, 1_000_000)
VIEW = "edit"
"""The view that is joined: all samples of the larger resolution."""
NIGHTLY = 0.01
"""Share of new samples."""
NEAR_BITS = 3
PLAIN = ("index", "encode", "again")
"""Steps that a loop over all rows does, too."""
PLAN_ROWS, PLAN_BUCKETS, PLAN_SOURCES, BATCH = 100_000_000, 9, 2, 2048
MARKS = {"curate": 8.0, "index": 5.0, "encode": 10.0, "again": 4.0}
"""Seconds for a million rows."""
MARK_MIB = 1.5e9 / 2**20


@dataclass(frozen=True)
class Figure:
    """What one step took."""

    seconds: float
    cpu: float
    mib: float


def main() -> None:
    """Measure all steps at every number of rows, or the plan, and record them."""
    if "--plan" in sys.argv:
        write_results("scale", plan_rows())
        return
    numbers = sorted(int(float(text)) for text in sys.argv[1:] if not text.startswith("--")) or ROWS
    if "--curate" in sys.argv:
        with tempfile.TemporaryDirectory() as root:
            curated = {num: measure_curation(Path(root, str(num)), num) for num in numbers}
        rows = [*step_rows(curated, ("curate",)), *nightly_rows(numbers[-1], curated[numbers[-1]])]
        write_results("scale", rows)
        return
    with tempfile.TemporaryDirectory() as root:
        found = {num: measure_all(Path(root, str(num)), num) for num in numbers}
        plain = {step: in_fresh_process(f"plain_{step}", Path(root, str(numbers[0]))) for step in PLAIN}
    most = found[numbers[-1]]
    rows = [*step_rows(found, tuple(MARKS)), *against_plain(found[numbers[0]], plain), *rank_rows(found)]
    write_results("scale", [*rows, *curation_rows(numbers[-1], most)])


def measure_all(folder: Path, num: int) -> dict[str, Figure]:
    """Every step on tables of so many rows."""
    folder.mkdir()
    write_encodings(folder, write_samples(folder, num))
    others = [step for step in MARKS if step != "curate"]
    found = measure_curation(folder, num)
    return found | {step: in_fresh_process(step, folder) for step in (*others, "copies", "copies_by_hand", "rank")}


def measure_curation(folder: Path, num: int) -> dict[str, Figure]:
    """The books of a run over so many samples, and of one that adds a few."""
    folder.mkdir(exist_ok=True)
    write_marks(folder, num)
    write_marks(folder, int(num * NIGHTLY), first=num)
    return {step: in_fresh_process(step, folder) for step in ("curate", "nightly")}


def step_rows(found: dict[int, dict[str, Figure]], steps: Sequence[str]) -> list[Row]:
    """Memory, seconds, growth and flatness of the driver's steps."""
    rows, (least, *_, most) = [], sorted(found)
    for step in steps:
        mark = MARKS[step]
        for num, figures in found.items():
            figure, millions = figures[step], num / 1e6
            at, spent = f"{num:.0e}".replace("e+0", "e"), figure.seconds / millions
            rows.append(Row(f"scale.{step}.driver.{at}", figure.mib, "MiB", "mark", MARK_MIB, MARK_MIB / figure.mib))
            rows.append(Row(f"scale.{step}.s.{at}", spent, "s per million rows", "mark", mark, mark / spent))
            rows.append(Row(f"scale.{step}.cpu.{at}", figure.cpu / millions, "CPU s per million rows"))
        few, many = found[least][step], found[most][step]
        flat = many.cpu / most / (few.cpu / least)
        rows.append(
            Row(f"scale.{step}.flat", flat, f"CPU s a row, {most:,} against {least:,}", "mark", 1.3, 1.3 / flat)
        )
        growth = many.mib / found[sorted(found)[-2]][step].mib
        rows.append(Row(f"scale.{step}.growth", growth, f"memory, {most:,} against a tenth", "mark", 1.3, 1.3 / growth))
    return rows


def against_plain(ours: dict[str, Figure], plain: dict[str, Figure]) -> list[Row]:
    """Each step against the same, row by row."""
    rows = []
    for step, peer in plain.items():
        figure, name = ours[step], "row by row in memory"
        rows.append(Row(f"scale.{step}.plain", figure.cpu, "CPU s", name, peer.cpu, peer.cpu / figure.cpu))
        rows.append(Row(f"scale.{step}.plain.driver", figure.mib, "MiB", name, peer.mib, peer.mib / figure.mib))
    return rows


def rank_rows(found: dict[int, dict[str, Figure]]) -> list[Row]:
    """A rank's own memory for an index, and opening it."""
    figures = [found[num]["rank"] for num in sorted(found)]
    return [
        Row("scale.rank", figures[-1].mib, f"MiB, {max(found):,} rows", f"{min(found):,} rows", figures[0].mib),
        Row("scale.rank.open", figures[-1].seconds, "s", "mark", 0.2, 0.2 / figures[-1].seconds),
    ]


def curation_rows(num: int, found: dict[str, Figure]) -> list[Row]:
    """A run that adds a few samples against the one that made the table, and its copies against a query of theirs."""
    ours, peer, by_hand = found["copies"], found["copies_by_hand"], "DuckDB without a bound, one query a kind"
    return [
        *nightly_rows(num, found),
        Row("scale.peer", ours.cpu, f"CPU s, copies of {num:,}", by_hand, peer.cpu, peer.cpu / ours.cpu),
        Row("scale.peer.driver", ours.mib, "MiB", by_hand, peer.mib, peer.mib / ours.mib),
    ]


def nightly_rows(num: int, found: dict[str, Figure]) -> list[Row]:
    """A run that adds a few samples against the one that made the table."""
    whole, night = found["curate"], found["nightly"]
    share = night.seconds / whole.seconds
    return [
        Row("scale.nightly", share, f"s, {NIGHTLY:.0%} new on {num:,}, of building it", "mark", 0.05, 0.05 / share),
        Row("scale.nightly.driver", night.mib, "MiB", "building it", whole.mib, whole.mib / night.mib),
    ]


def plan_rows() -> list[Row]:
    """A rank's first batch of the plan of a hundred million rows, and the memory that it holds."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        write_cells(folder)
        figure = in_fresh_process("plan", folder)
    mark = 1.5e9 / 2**20
    return [
        Row("plan.100m", figure.seconds, "s to the first batch", "mark", 15.0, 15.0 / figure.seconds),
        Row("plan.100m.cpu", figure.cpu, "CPU s to the first batch"),
        Row("plan.100m.memory", figure.mib, "MiB a rank", "mark", mark, mark / figure.mib),
    ]


def write_cells(folder: Path) -> None:
    """The rows of a large view by cell, in files."""
    rng = np.random.default_rng(0)
    bucket = rng.integers(0, PLAN_BUCKETS, PLAN_ROWS, np.int16)
    source = rng.integers(0, PLAN_SOURCES, PLAN_ROWS, np.int16)
    cells = sort_into_cells(bucket, source, partial(new_column, folder / "by_cell.npy"))
    np.save(folder / "cells.npy", cells.cells)


def tables_in(folder: Path) -> EncodedTables:
    """The tables that `measure_all` wrote."""
    samples, states, latents = (latest_version(f"{folder}/{name}.lance") for name in ("samples", "states", "latents"))
    return EncodedTables(samples, states, latents, CODEC, sees_images=False)


def curate(folder: Path) -> None:
    """The bookkeeping of a run over all samples: copies, both tables, what the record says."""
    outputs = _curated(folder, 0, None)
    (folder / "curated.json").write_text(json.dumps(outputs.outputs()), encoding="utf-8")


def nightly(folder: Path) -> None:
    """The same of a run that adds a few samples to them."""
    base = CurationOutputs.from_outputs(json.loads((folder / "curated.json").read_text(encoding="utf-8")))
    assert _curated(folder, base.read, base).kept > base.kept


def _curated(folder: Path, first: int, base: CurationOutputs | None) -> CurationOutputs:
    tables = open_sample_tables(f"{folder}/curated.lance", f"{folder}/rejects.lance", RESOLUTIONS, base)
    with manifest_of(marks_schema(RESOLUTIONS)) as marks:
        for batch in marks_in(folder, first):
            marks.add(batch)
        marks.refuse_copies(tables.kept, NEAR_BITS)
        return add_marks(tables, marks, [], "")


def marks_in(folder: Path, first: int) -> Iterator[pa.Table]:
    """The marks that `write_marks` wrote, a task's at a time."""
    with pa.OSFile(f"{folder}/marks-{first}.arrow") as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(number)])


def copies(folder: Path) -> None:
    """Exact and near copies among all marks."""
    with manifest_of(marks_schema(RESOLUTIONS)) as marks:
        for batch in marks_in(folder, 0):
            marks.add(batch)
        marks.refuse_copies(None, NEAR_BITS)
        assert marks.num_kept < 0.96 * marks.num_items


def copies_by_hand(folder: Path) -> None:
    """The same with one query a kind; in a chain of near ones it refuses all but the first."""
    marks = pa.concat_tables(marks_in(folder, 0)).select(["order", "sample_id", "pair", "phash"])
    with duckdb.connect(":memory:") as database:
        database.register("marks", marks)
        database.execute(
            """CREATE TABLE kept AS SELECT arg_min(pair, "order") AS pair, min("order") AS place,
            ('0x' || arg_min(phash, "order"))::UBIGINT AS phash FROM marks GROUP BY sample_id"""
        )
        near = database.execute(
            f"""SELECT count(DISTINCT b.place) FROM kept a JOIN kept b ON a.pair = b.pair AND a.place < b.place
            WHERE bit_count(xor(a.phash, b.phash)) <= {NEAR_BITS}"""
        ).fetchall()
        assert near[0][0] > 0


def index(folder: Path) -> None:
    """Join a view."""
    build_index(tables_in(folder), views()[VIEW], folder / "index")


def rank(folder: Path) -> None:
    """Open the index, and look at a batch of it."""
    opened = SampleIndex.load(folder / "index")
    rows = np.random.default_rng(0).integers(0, len(opened), 256)
    _ = opened.state[rows], opened.latent[rows], opened.reference[rows]


def encode(folder: Path) -> None:
    """Plan the contexts and latents of four stages, and write all of them as tasks, as though none was there."""
    with planned(tables_in(folder).samples, views(), sees_images=False, codec_id=CODEC) as plan:
        for name, tasks in (("contexts", plan.contexts), ("latents", plan.latents)):
            (folder / name).mkdir(exist_ok=True)
            SortedKeys(folder / name, tasks.sorted_keys())
            with task_table(str(folder), tasks.schema, tasks.in_order()):
                pass


def again(folder: Path) -> None:
    """The same where nothing is missing: what is there, and the identities of all stages."""
    tables = tables_in(folder)
    with planned(tables.samples, views(), sees_images=False, codec_id=CODEC) as plan:
        for tasks, table in ((plan.contexts, tables.states), (plan.latents, tables.latents)):
            assert tasks.missing(table).num_rows == 0
            assert tasks.num_missing(table, []) == 0
        sums = plan.sums([])
        assert len({sums.of([name]) for name in views()}) == len(views())


def plan(folder: Path) -> None:
    """Group the rows and plan the first epoch."""
    rows = CellRows(map_column(folder / "by_cell.npy"), np.load(folder / "cells.npy"))
    make_plan(rows, batch_size=BATCH, seed=0).epoch(0).batch(0)


def plain_index_step(folder: Path) -> None:
    """`index`, row by row."""
    plain_index(tables_in(folder), views()[VIEW])


def plain_encode(folder: Path) -> None:
    """`encode`, row by row."""
    samples, asked = tables_in(folder).samples, list(views().values())
    tasks = plain_contexts(samples, asked, False), plain_latents(samples, asked, CODEC)
    assert all(tasks)


def plain_again(folder: Path) -> None:
    """`again`, row by row, but for the identities."""
    tables, asked = tables_in(folder), list(views().values())
    keys = {task["context_key"] for task in plain_contexts(tables.samples, asked, False)}
    keys |= {task["latent_key"] for task in plain_latents(tables.samples, asked, CODEC)}
    assert not keys.difference(read_column(tables.states, "context_key"), read_column(tables.latents, "latent_key"))


STEPS: dict[str, tuple[Callable[[Path], None], Callable[[Callable[[], None]], float]]] = {
    "curate": (curate, added_peak_mib),
    "nightly": (nightly, added_peak_mib),
    "copies": (copies, added_peak_mib),
    "copies_by_hand": (copies_by_hand, added_peak_mib),
    "index": (index, added_peak_mib),
    "encode": (encode, added_peak_mib),
    "again": (again, added_peak_mib),
    "rank": (rank, added_anonymous_mib),  # pages of mapped files are not its own
    "plan": (plan, added_anonymous_mib),
    "plain_index": (plain_index_step, added_peak_mib),
    "plain_encode": (plain_encode, added_peak_mib),
    "plain_again": (plain_again, added_peak_mib),
}


def in_fresh_process(step: str, folder: Path) -> Figure:
    """What a step takes in a process that did nothing before."""
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--step", step, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=CLONE)
    figure = Figure(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{step} of {folder.name}: {figure}", flush=True)
    return figure


def run_step(name: str, folder: Path) -> None:
    """Run one step and print its figure."""
    run, measure = STEPS[name]
    wall, cpu = time.perf_counter(), time.process_time()
    mib = measure(partial(run, folder))
    print(json.dumps(asdict(Figure(time.perf_counter() - wall, time.process_time() - cpu, mib))))


if __name__ == "__main__":
    if "--step" in sys.argv:
        run_step(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
