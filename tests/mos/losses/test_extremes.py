"""The hardest and the easiest samples, and their picture."""

from pathlib import Path

import pyarrow as pa
import pytest

from mos.evaluation.theme import LIGHT, figure_png
from mos.images.decode import ImageLimits
from mos.losses.extremes import COLUMNS, extremes, extremes_figure, read_pictures
from mos.losses.parts import MEASURED
from tests.samples import Pair, append_samples


def measured(losses: list[float | None]) -> pa.Table:
    rows = [{"address": place, "loss": loss, "reason": None} for place, loss in enumerate(losses)]
    return pa.Table.from_pylist(rows, MEASURED)


@pytest.mark.parametrize(
    ("losses", "hardest", "easiest"),
    [
        ([0.3, 0.1, None, 0.2, 0.5, 0.4], [4, 5], [1, 3]),
        ([0.3, 0.1, 0.2], [0], [1, 2]),
        ([0.3], [], [0]),
        ([None], [], []),
        ([0.1] * 6, [4, 5], [0, 1]),
    ],
)
def test_each_sample_is_on_one_side_at_most(losses, hardest, easiest):
    found = extremes(measured(losses), 2)
    assert [rows["address"].to_pylist() for rows in found] == [hardest, easiest]


def test_pictures_come_in_order_with_loss_and_caption(tmp_path: Path):
    append_samples(tmp_path, [Pair("red one", "red"), Pair("blue one", "blue")])
    samples = append_samples(tmp_path, [Pair("green one", "green"), Pair("into pink", "pink", reference="red")])
    rows = pa.table({"address": [1 << 32 | 1, 1, 1 << 32], "loss": [0.75, 0.5, 0.25]})
    found = read_pictures(samples, rows, ImageLimits(min_side_px=16))
    assert [picture.prompt for picture in found] == ["0.750  into pink", "0.500  blue one", "0.250  green one"]
    assert [picture.image.getpixel((63, 0)) for picture in found] == [(255, 192, 203), (0, 0, 255), (0, 128, 0)]
    assert read_pictures(samples, rows.slice(0, 0), ImageLimits()) == []
    figure = extremes_figure("stage1", found[:1] * (COLUMNS + 1), found[1:], LIGHT)
    assert [part.get_suptitle() for part in figure.subfigs] == ["hardest for stage1", "easiest for stage1"]
    assert figure_png(lambda theme: extremes_figure("stage1", [], found, theme), LIGHT).startswith(b"\x89PNG")
