"""A scorer's results beside published ones: `scores.json`, and a page of one table."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mos.benchmarks.benchmark import Benchmark
from mos.benchmarks.score import Scores
from mos.files import written_whole

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
    table, digits, last = benchmark.table, benchmark.digits, benchmark.table.overall
    columns = (*table.columns, *(name for name in scores.categories if name not in table.columns))
    published = []
    if scores.comparable:
        for name, figures in table.rows.items():
            known = dict(zip((*table.columns, last), figures, strict=True))
            cells = (_told(known.get(column), digits) for column in (*columns, last))
            published.append(Row(name, tuple(cells)))
    found = {**scores.categories, last: scores.overall}
    own = (found[column].in_words(digits) if column in found else ABSENT for column in (*columns, last))
    notes = [
        f"± is half the 95% interval over prompts, of which {scores.overall.num} are scored.",
        f"Other rows: {table.source}." if published else "",
        scores.note,
    ]
    rows = (*published, Row(model, tuple(own), ours=True))
    return Comparison(benchmark.title, (*columns, last), rows, tuple(note for note in notes if note))


def write_page(folder: Path, comparison: Comparison, scores: Scores, pictures: Path | None) -> Path:
    """`scores.json` and `scores.html` in the folder; returns the page's path.

    Args:
        folder: where they go.
        comparison: what the page shows.
        scores: what the JSON holds.
        pictures: a PNG in the same folder to show below.
    """
    last = comparison.columns[-1]
    told = {name: asdict(score) for name, score in {**scores.categories, last: scores.overall}.items()}
    details = {name: asdict(score) for name, score in scores.details.items()}
    _write(
        folder / "scores.json",
        json.dumps({"scores": told, "details": details, "table": asdict(comparison)}, indent=2) + "\n",
    )
    environment = Environment(
        loader=PackageLoader("mos.benchmarks", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    name = None if pictures is None else pictures.name
    page = folder / "scores.html"
    _write(page, environment.get_template("scores.html").render(comparison=comparison, pictures=name))
    return page


def _told(figure: float | None, digits: int) -> str:
    return ABSENT if figure is None else f"{figure:.{digits}f}"


def _write(path: Path, text: str) -> None:
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
