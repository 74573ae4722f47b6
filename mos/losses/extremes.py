"""The samples that a model finds hardest and easiest, to be looked at."""

from collections.abc import Sequence

import pyarrow as pa
from matplotlib.figure import Figure

from mos.evaluation.grids import Captioned, fill_grid
from mos.evaluation.theme import Theme, new_figure
from mos.images.decode import ImageLimits, decode_image
from mos.tables.lance import TableVersion, rows_at

NUM = 32
"""Samples of each kind."""
COLUMNS = 8
CELL = 1.6
"""Inches of a picture."""
CAPTION = 0.55
"""Inches below it."""
SHOWN_PX = 320
"""Longest side of a picture in the figure."""


def extremes(measured: pa.Table, num: int = NUM) -> tuple[pa.Table, pa.Table]:
    """The samples of the highest losses, highest first, and of the lowest, lowest first; no sample is in both.

    Args:
        measured: MEASURED of `mos.losses.parts`; samples without a loss are left out.
        num: of each kind, where there are so many.
    """
    rows = measured.filter(measured["loss"].is_valid()).sort_by([("loss", "ascending"), ("address", "ascending")])
    easiest = rows.slice(0, min(num, -(-len(rows) // 2)))
    hardest = rows.slice(max(len(easiest), len(rows) - num)).sort_by([("loss", "descending"), ("address", "ascending")])
    return hardest, easiest


def read_pictures(samples: TableVersion, rows: pa.Table, limits: ImageLimits) -> list[Captioned]:
    """The pictures of some samples, those of edits as they became, each with its loss and caption, in the order given.

    Args:
        samples: the table that the addresses are of.
        rows: `address` and `loss`.
        limits: the pictures passed these when they were curated.
    """
    addresses = rows["address"].to_pylist()
    if not addresses:
        return []
    found = {row["_rowaddr"]: row for row in rows_at(samples, ["image", "caption"], addresses).to_pylist()}
    return [
        Captioned(decode_image(found[address]["image"], limits, SHOWN_PX), f"{loss:.3f}  {found[address]['caption']}")
        for address, loss in zip(addresses, rows["loss"].to_pylist(), strict=True)
    ]


def extremes_figure(title: str, hardest: Sequence[Captioned], easiest: Sequence[Captioned], theme: Theme) -> Figure:
    """Both as grids, the hardest above, each picture with its loss and caption."""
    parts = {f"hardest for {title}": hardest, f"easiest for {title}": easiest}
    shown = {name: pictures for name, pictures in parts.items() if pictures}
    heights = [-(-len(pictures) // COLUMNS) * (CELL + CAPTION) + 0.3 for pictures in shown.values()]
    figure = new_figure(COLUMNS * CELL, sum(heights))
    grids = figure.subfigures(len(shown), 1, height_ratios=heights, squeeze=False)
    for grid, (name, pictures) in zip(grids.flat, shown.items(), strict=True):
        grid.suptitle(name, x=0.01, ha="left", fontsize=11, fontweight="bold", color=theme.ink)
        fill_grid(grid, pictures, theme, COLUMNS, CELL)
    return figure
