"""Published tables are whole, and their overall figures what their columns make."""

from typing import get_args

import numpy as np
import pytest

from mos.benchmarks import published
from mos.benchmarks.choose import benchmark_named
from mos.benchmarks.config import BenchmarkName
from mos.benchmarks.published import Table
from mos.benchmarks.wise import WEIGHTS


@pytest.mark.parametrize("name", get_args(BenchmarkName))
def test_rows_fit_their_columns(name: BenchmarkName) -> None:
    table = benchmark_named(name).table
    assert {len(figures) for figures in table.rows.values()} == {len(table.columns) + 1}


@pytest.mark.parametrize("table", [published.GENEVAL, published.ONEIG, published.IMGEDIT])
def test_overall_figures_are_means_of_their_columns(table: Table) -> None:
    """As `Scores` of these benchmarks have it; figures are rounded to two places, and some rows to one more."""
    for model, (*columns, overall) in table.rows.items():
        assert np.mean(columns) == pytest.approx(overall, abs=0.0155), model


def test_the_weights_of_wise_make_its_overall_figures() -> None:
    for model, (*columns, overall) in published.WISE.rows.items():
        rounding = 0.02 if model.startswith("Bagel") else 0.01  # Bagel's is 0.52, its categories make 0.50
        assert np.dot(columns, list(WEIGHTS.values())) == pytest.approx(overall, abs=rounding), model
