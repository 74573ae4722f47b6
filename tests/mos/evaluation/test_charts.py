import io

import numpy as np
import pytest
from PIL import Image

from mos.evaluation.charts import LossCurve, bucket_chart, loss_chart, reject_chart, running_mean, score_chart
from mos.evaluation.theme import DARK, LIGHT, Theme, figure_png


def test_the_running_mean_keeps_constants_and_length() -> None:
    assert running_mean([2.0] * 7) == [2.0] * 7
    assert running_mean([1.0]) == [1.0]


def test_the_running_mean_smooths_noise_and_follows_the_level() -> None:
    noise = np.random.default_rng(0).normal(size=400)
    smooth = np.array(running_mean(list(noise + 5)))
    assert smooth.std() < 0.5 * noise.std()
    assert abs(smooth.mean() - 5) < 0.1


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize(
    "draw",
    [
        lambda theme: loss_chart(
            [LossCurve("stage1", (1, 2, 3), (2.0, 1.0, 0.5)), LossCurve("edit", (1,), (1.0,))], theme
        ),
        lambda theme: reject_chart({"caption_empty": 3, "image_truncated": 10}, theme),
        lambda theme: bucket_chart({"32 px": {"32x32": 5, "24x44": 2}, "64 px": {"64x64": 1}}, theme),
        lambda theme: score_chart({"single_object": (1.0, 64), "position": (0.0, 12)}, theme),
    ],
    ids=["losses", "rejects", "buckets", "scores"],
)
def test_charts_are_drawn_on_the_theme(draw, theme: Theme) -> None:
    image = Image.open(io.BytesIO(figure_png(draw, theme))).convert("RGB")
    background = tuple(int(theme.background[i : i + 2], 16) for i in (1, 3, 5))
    assert image.getpixel((1, 1)) == background
    assert len(image.getcolors(maxcolors=1 << 24)) > 10


def test_reasons_are_ordered_by_their_count() -> None:
    axes = reject_chart({"few": 1, "many": 9, "some": 4}, LIGHT).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["many", "some", "few"]


def test_buckets_run_from_wide_to_tall() -> None:
    figure = bucket_chart({"32 px": {"44x24": 1, "32x32": 1, "24x44": 1}}, LIGHT)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["24x44", "32x32", "44x24"]
