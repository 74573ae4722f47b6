#!/usr/bin/env python3
"""Benchmark: a published benchmark's prompts -> the pictures its own scorer reads; that scorer's results -> a table.

Run it, run the command that it ends with (the benchmark's own scorer, in a checkout and an environment of its own), and
run it again: what is drawn is not drawn again, and the scores stand in a table beside published ones, with 95%
intervals. `pipelines/evaluate.py` is another job: it judges a run by the checker of the demo's drawn scenes.

Reads   the benchmark's own prompt files, by path; the export of a finished stage, or any export by path; a CLIP by path
Writes  benchmarks/<benchmark>/<fingerprint>/: images/ in the folders and names that the scorer reads, pictures.png;
        with results/, where the scorer writes: scores.json, scores.html

  python pipelines/benchmark.py geneval prompts=geneval/prompts/evaluation_metadata.jsonl
  python pipelines/benchmark.py dpg prompts=ELLA/dpg_bench/prompts export=runs/a/checkpoints/stage4/0c41174e026a/export
  python pipelines/benchmark.py my.toml gedit prompts=GEdit-Bench first=20 sampler.guidance=5
  ray job submit --working-dir . -- pipelines/benchmark.py my.toml geneval prompts=/shared/evaluation_metadata.jsonl
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.run.cli import Command

COMMAND = Command(__name__, __doc__, section="benchmarks", words="benchmark")

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import get_args

from PIL import Image
from rich.console import Console
from rich.table import Table

from cluster.session import ray_session
from mos.benchmarks.benchmark import Benchmark, Place
from mos.benchmarks.choose import benchmark_named
from mos.benchmarks.config import BenchmarkName
from mos.benchmarks.entries import as_file_name
from mos.benchmarks.item import Item
from mos.benchmarks.page import Comparison, compare, write_page
from mos.benchmarks.published import CLIP
from mos.benchmarks.score import Score
from mos.errors import UserError
from mos.files import written_whole
from mos.fingerprint import fingerprint
from mos.identity import numbers_of
from mos.sampling.export import read_export_config
from mos.sampling.recipe import model_fingerprint
from pipelines.draw.requests import export_folder, text_stage
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run

LOOK = "pictures.png"
SHOWN = 24
"""Prompts of `pictures.png`."""
PLACES = ("prompts", "pictures", "export", "stage")
"""Settings that say where something is: what it is decides the pictures."""


def main(run: Run, args: Namespace) -> None:
    """Draw what is missing, tell how it is scored, show the scores that are there."""
    config, benchmark = run.config, chosen_benchmark(run.config)
    export = chosen_export(run, benchmark)
    place, items = laid_out(config, benchmark, export)
    if args.force:
        remove_files(items, place.folder)
    draw_missing_items(config, benchmark, place, items, export)
    print(f"benchmark: {benchmark.title} of {place.model} is in {place.images}", flush=True)
    clip = clip_score(config, place, items)
    scores = benchmark.scores(place)
    if scores is None:
        tell_what_to_run(benchmark, place, partly=config.benchmarks.first is not None)
        return
    if clip is not None:
        scores = replace(scores, categories={**scores.categories, CLIP: clip})
    comparison = compare(benchmark, place.model, scores)
    page = write_page(place.folder, comparison, scores, place.folder / LOOK)
    Console(width=160).print(shown(comparison))
    for note in comparison.notes:
        print(f"benchmark: {note}", flush=True)
    if scores.overall.num < len(items):
        print(
            f"benchmark: {scores.overall.num} of {len(items)} prompts are scored: run the scorer again for the others"
        )
    print(f"benchmark: the table is {page}", flush=True)


def chosen_benchmark(config: RunConfig) -> Benchmark:
    """The benchmark that is named.

    Raises:
        UserError: none is, or its prompts are not.
    """
    name, prompts = config.benchmarks.benchmark, config.benchmarks.prompts
    if name is None:
        raise UserError(f"no benchmark is named: say which, of {', '.join(get_args(BenchmarkName))}")
    benchmark = benchmark_named(name)
    if prompts is None:
        raise UserError(
            f"{benchmark.title} has no prompts: name them with prompts=, as {benchmark.prompts} of "
            f"{benchmark.repository} has them"
        )
    return benchmark


def chosen_export(run: Run, benchmark: Benchmark) -> str:
    """Folder of the model that draws.

    Raises:
        UserError: export and stage are both named, the stage is not finished, or its model cannot do what is asked.
    """
    settings = run.config.benchmarks
    if settings.export is not None and settings.stage is not None:
        raise UserError(f"both export = {settings.export!r} and stage = {settings.stage!r} are given: name one of them")
    if settings.export is not None:
        export = settings.export
    elif benchmark.edits:
        export = export_folder(run, settings.stage or "edit")
    else:
        export = export_folder(run, text_stage(run, settings.stage))
    told = read_export_config(export)
    if benchmark.edits and not told.edits:
        raise UserError(
            f"{benchmark.title} edits pictures, and {export} is not trained to: name an `edit` stage's export"
        )
    return export


def laid_out(config: RunConfig, benchmark: Benchmark, export: str) -> tuple[Place, Sequence[Item]]:
    """Where everything of this model, these prompts and these settings stands, and what is to be drawn of it."""
    settings = config.benchmarks
    assert settings.prompts is not None
    assert settings.benchmark is not None
    if benchmark.edits and settings.clip is not None:
        raise UserError(f"clip = {settings.clip!r} is for pictures from text: an instruction describes no picture")
    if benchmark.edits and settings.side is not None:
        raise UserError(f"side = {settings.side} is for pictures from text: an edit has the bucket of its source")
    place = Place(
        folder=config.folder("benchmarks", settings.benchmark),
        model=as_file_name(settings.model_name or config.name, "model_name"),
        prompts=Path(settings.prompts).expanduser().absolute(),
        pictures=None if settings.pictures is None else Path(settings.pictures).expanduser().absolute(),
        num=settings.images_per_prompt or benchmark.images_per_prompt,
        language=settings.language,
        judge=settings.judge,
        side=settings.side or int(read_export_config(export).run["resolution"]),
    )
    if benchmark.most_images is not None and place.num > benchmark.most_images:
        raise UserError(
            f"images_per_prompt = {place.num} is more than the scorer of {benchmark.title} reads: "
            f"{benchmark.most_images} at most"
        )
    deciding = {name: value for name, value in numbers_of(settings).items() if name not in PLACES}
    digest = fingerprint(
        model=model_fingerprint(export),
        items=[(item.prompt, item.files) for item in benchmark.items(place)],
        settings=deciding | {"model": place.model, "images_per_prompt": place.num, "side": place.side},
        seed=config.seed,
    )
    place = place.below(digest[:12])
    return place, benchmark.items(place)[: settings.first]


def draw_missing_items(
    config: RunConfig, benchmark: Benchmark, place: Place, items: Sequence[Item], export: str
) -> None:
    """Every file of the items, and a look at the first pictures; begins no Ray where nothing is missing."""
    from pipelines.draw.files import (
        Pool,
        draw_missing,
        missing_files,
        requests_of,
        write_missing_grids,
        write_texts,
    )

    settings = config.benchmarks
    requests = requests_of(items, place.folder, config.seed, settings.side)
    total = sum(len(item.pictures) for item in items)
    print(f"benchmark: {len(items)} prompts, {total} pictures, {len(requests)} of them to be drawn", flush=True)
    benchmark.prepare(place, items)
    write_texts(items, place.folder)
    if missing_files(items, place.folder):
        pool = Pool(
            export, model_fingerprint(export), settings.sampler, config.cluster.generate, settings.batch_size,
            settings.compile, config.curate.image,
        )  # fmt: skip
        with ray_session(config.cluster):
            draw_missing(requests, pool, "benchmark")
            write_missing_grids(items, place.folder)
    if requests or not (place.folder / LOOK).is_file():
        write_look(place.folder, items)
    about = {"export": export, "settings": settings.model_dump(mode="json"), "model": model_fingerprint(export)}
    with written_whole(place.folder / "about.json") as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    place.results.mkdir(exist_ok=True)


def clip_score(config: RunConfig, place: Place, items: Sequence[Item]) -> Score | None:
    """The CLIP score of all pictures and its interval, where a checkpoint is named; edits are told by no prompt."""
    path = config.benchmarks.clip
    if path is None:
        return None
    from pipelines.draw.alignment import measure_alignment

    found = measure_alignment(items, place, path, config)
    print(f"benchmark: {CLIP} {found.in_words(2)} (by {path}, over {found.num} prompts)", flush=True)
    return found


def tell_what_to_run(benchmark: Benchmark, place: Place, partly: bool) -> None:
    """The official command of the results that are missing."""
    print(f"benchmark: no results yet. Next, in a checkout of {benchmark.repository} (read at {benchmark.commit[:7]}):")
    for line in benchmark.commands(place):
        print(f"    {line}")
    if partly:
        print("benchmark: these are the first prompts alone; leave first= out for scores that may be told")
    print("benchmark: then run this again, for the table", flush=True)


def shown(comparison: Comparison) -> Table:
    """The comparison for a terminal."""
    table = Table(title=comparison.title, title_justify="left")
    table.add_column("model")
    for column in comparison.columns:
        table.add_column(column, justify="right")
    for row in comparison.rows:
        table.add_row(row.model, *row.cells, style="bold" if row.ours else None)
    return table


def remove_files(items: Sequence[Item], folder: Path) -> None:
    """Everything that was drawn or written here; what the scorer wrote, which may have cost money, stays."""
    for item in items:
        for name in item.files:
            (folder / name).unlink(missing_ok=True)


def write_look(folder: Path, items: Sequence[Item]) -> None:
    """The first picture of the first prompts."""
    from mos.evaluation.grids import Captioned, picture_grid  # matplotlib, which a finished benchmark does without
    from mos.evaluation.theme import LIGHT, figure_png

    looked = []
    for item in items[:SHOWN]:
        with Image.open(folder / item.pictures[0]) as image:
            looked.append(Captioned(image.convert("RGB"), item.prompt))
    with written_whole(folder / LOOK) as partial_path:
        partial_path.write_bytes(figure_png(partial(picture_grid, looked), LIGHT))


if __name__ == "__main__":
    COMMAND.run(main)
