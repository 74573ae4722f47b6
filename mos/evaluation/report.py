"""A run's records in, `report.html` and its figures out: one self-contained page, for light and dark screens."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from mos.evaluation.charts import LossCurve, bucket_chart, loss_chart, reject_chart, score_chart
from mos.evaluation.grids import Captioned, EditExample, edit_grid, picture_grid
from mos.evaluation.router_figure import RouterStory, router_figure
from mos.evaluation.scores import Scores, with_margin
from mos.evaluation.theme import DARK, LIGHT, Theme, figure_png
from mos.evaluation.usage_figure import usage_figure
from mos.files import written_whole
from mos.sampling.layer_usage import layer_usage, suggested_subsets
from mos.sampling.pictures import to_png
from mos.sampling.trace import RouterTrace, last_layer_share, routing_entropy, token_divergence

Draw = Callable[[Theme], Figure]

EMBEDDED = ("router", "layers", "losses", "rejects", "buckets")
"""Figures that the page shows as they are; it sets pictures, edits and scores itself, as text and tables."""


@dataclass(frozen=True)
class Counts:
    """Items that curation read, kept and rejected."""

    read: int
    kept: int
    rejected: Mapping[str, int]
    """Reason -> items."""


@dataclass(frozen=True)
class Report:
    """Everything a report shows; what is None or empty is left out, and `omissions` says why."""

    name: str
    """Of the run."""
    facts: Mapping[str, str]
    """Short label -> value, for the head of the page."""
    counts: Counts
    buckets: Mapping[str, Mapping[str, int]]
    """Resolution such as `32 px` -> bucket `HxW` -> samples."""
    losses: Sequence[LossCurve]
    pictures: Sequence[Captioned]
    scores: Scores | None
    edits: Sequence[EditExample]
    router: RouterStory | None
    router_panels: int = 6
    router_tokens: int = 8
    omissions: Mapping[str, str] = field(default_factory=dict)
    """Section (`pictures`, `scores`, `edits`, `router`, `training`) -> why it is empty."""
    settings: str = ""
    """The resolved config, as text."""


@dataclass(frozen=True)
class Embedded:
    """A figure for both kinds of screen, as data URIs."""

    light: str
    dark: str


def write_report(report: Report, folder: Path) -> Path:
    """Write the page, a PNG of each figure, scores.json and the router's trace; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for name, draw in _figures(report).items():
        light = figure_png(draw, LIGHT)
        (folder / f"{name}.png").write_bytes(light)
        if name in EMBEDDED:
            figures[name] = Embedded(data_uri(light), data_uri(figure_png(draw, DARK)))
    if report.scores is not None:
        (folder / "scores.json").write_text(json.dumps(report.scores.as_dict(), indent=2) + "\n", encoding="utf-8")
    if report.router is not None:
        report.router.trace.save(folder / "router_trace.npz")
    page = folder / "report.html"
    with written_whole(page) as partial:
        partial.write_text(render_page(report, figures), encoding="utf-8")
    return page


def render_page(report: Report, figures: Mapping[str, Embedded]) -> str:
    """The page as text; refers to nothing outside itself."""
    environment = Environment(
        loader=PackageLoader("mos.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["with_margin"] = with_margin
    environment.filters["picture"] = lambda image: data_uri(to_png(image))
    trace = None if report.router is None else report.router.trace
    return environment.get_template("report.html").render(
        report=report,
        figures=figures,
        router_facts=trace and router_facts(trace),
        subsets=trace and suggested_subsets(layer_usage([trace])),
    )


def router_facts(trace: RouterTrace) -> dict[str, str]:
    """The router's behaviour in four figures, at the first and the last step (the claims of Appendix B.7)."""

    def change(values: Sequence[float], pattern: str = "{:.2f}") -> str:
        return f"{pattern.format(values[0])} → {pattern.format(values[-1])}"

    return {
        "spread of the weights over layers (1 = all alike)": change(routing_entropy(trace).tolist()),
        "weight of the last layer": change(last_layer_share(trace).tolist()),
        "weight of one layer if all were alike": f"{1 / trace.weights.shape[2]:.2f}",
        "difference between tokens, bits": change(token_divergence(trace).tolist()),
    }


def data_uri(png: bytes) -> str:
    """PNG bytes as the address of an image inside a page."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _figures(report: Report) -> dict[str, Draw]:
    """Figures that the report has material for: file name -> function that draws it."""
    draws: dict[str, Draw] = {}
    if report.pictures:
        draws["pictures"] = partial(picture_grid, report.pictures)
    if report.scores is not None:
        shares = {str(category): (score.correct, score.num) for category, score in report.scores.categories.items()}
        draws["scores"] = partial(score_chart, shares)
    if report.edits:
        draws["edits"] = partial(edit_grid, report.edits)
    if report.router is not None:
        panels, tokens = report.router_panels, report.router_tokens
        draws["router"] = partial(router_figure, report.router, num_panels=panels, num_tokens=tokens)
        draws["layers"] = partial(usage_figure, layer_usage([report.router.trace]))
    if report.losses:
        draws["losses"] = partial(loss_chart, report.losses)
    if report.counts.rejected:
        draws["rejects"] = partial(reject_chart, report.counts.rejected)
    if report.buckets:
        draws["buckets"] = partial(bucket_chart, report.buckets)
    return draws
