"""A scorer's results beside published ones: `scores.json`, and a page of one table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mos.benchmarks.benchmark import Benchmark
from mos.benchmarks.score import Scores
from mos.files import written_whole

OVERALL = "overall"
ABSENT = "–"
"""In place of a figure that is not known."""


@dataclass(frozen=True)
class Row:
    """A line of the table, in words."""

    model: str
    cells: tuple[str, ...]
    ours: bool = False


@dataclass(frozen=True)
class Comparison:
    """Our model among published ones."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def compare(benchmark: Benchmark, model: str, scores: Scores) -> Comparison:
    """The table; published figures are left out, and it says so, where ours were not taken as they were."""
    table, digits = benchmark.table, benchmark.digits
    columns = (*table.columns, *(name for name in scores.categories if name not in table.columns))
    published = []
    if scores.comparable:
        for name, figures in table.rows.items():
            known = dict(zip((*table.columns, OVERALL), figures, strict=True))
            cells = (f"{known[column]:.{digits}f}" if column in known else ABSENT for column in (*columns, OVERALL))
            published.append(Row(name, tuple(cells)))
    found = {**scores.categories, OVERALL: scores.overall}
    own = (found[column].in_words(digits) if column in found else ABSENT for column in (*columns, OVERALL))
    notes = [
        f"± is half the 95% interval, over {scores.overall.num} prompts.",
        f"Other rows: {table.source}." if published else "",
        scores.note,
    ]
    rows = (*published, Row(model, tuple(own), ours=True))
    return Comparison(benchmark.title, (*columns, OVERALL), rows, tuple(note for note in notes if note))


def write_page(folder: Path, comparison: Comparison, scores: Scores, pictures: Path | None) -> Path:
    """`scores.json` and `scores.html` in the folder; returns the page's path.

    Args:
        folder: where they go.
        comparison: what the page shows.
        scores: what the JSON holds.
        pictures: a PNG in the same folder to show below.
    """
    told = {name: asdict(score) for name, score in {**scores.categories, OVERALL: scores.overall}.items()}
    _write(folder / "scores.json", json.dumps({"scores": told, "table": asdict(comparison)}, indent=2) + "\n")
    environment = Environment(
        loader=PackageLoader("mos.benchmarks", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    name = None if pictures is None else pictures.name
    page = folder / "scores.html"
    _write(page, environment.get_template("scores.html").render(comparison=comparison, pictures=name))
    return page


def listed(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def _write(path: Path, text: str) -> None:
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
