"""What a driver does with a whole table, on a few hundred thousand rows: a list of everything would be too much."""

from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from mos.tables import workspace
from tests.benchmarks import scale
from tests.benchmarks.harness import added_peak_mib
from tests.benchmarks.scale_tables import write_encodings, write_marks, write_samples

ROWS, FEW_ROWS = 300_000, 20_000
DATABASE_MB = 96
"""Less than the tables, so that what does not fit stands on disk, as that of a large table does."""
BOUND_MIB = 300
"""Beside what the libraries take for any table. Measured: 141 to 215, and row by row 430 to 496."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A few rows, and many."""
    made = []
    for num in (FEW_ROWS, ROWS):
        made.append(tmp_path_factory.mktemp(f"{num}-rows"))
        write_encodings(made[-1], write_samples(made[-1], num))
        write_marks(made[-1], num)
    return made[0], made[1]


def peak_mib(step: Callable[[Path], None], folders: tuple[Path, Path]) -> float:
    """MiB that a step takes for many rows, in a process of its own that has done it for a few."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (step, folders))


def _measured(step: Callable[[Path], None], folders: tuple[Path, Path]) -> float:
    workspace.MEMORY_MB = DATABASE_MB
    few, many = folders
    step(few)
    return added_peak_mib(lambda: step(many))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("step", [scale.curate, scale.index, scale.encode, scale.again])
def test_a_driver_holds_no_list_of_all_rows(folders: tuple[Path, Path], step: Callable[[Path], None]) -> None:
    assert peak_mib(step, folders) < BOUND_MIB


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("step", [scale.plain_index_step, scale.plain_again])
def test_lists_of_all_rows_would_be_seen(folders: tuple[Path, Path], step: Callable[[Path], None]) -> None:
    assert peak_mib(step, folders) > BOUND_MIB
