"""What every benchmark says of itself."""

from pathlib import Path
from typing import get_args

import pytest

from mos.benchmarks.choose import benchmark_named
from mos.benchmarks.config import BenchmarkName
from tests.mos.benchmarks.places import place_of


@pytest.mark.parametrize("name", get_args(BenchmarkName))
def test_each_names_its_source_and_a_number_that_its_layout_takes(name: BenchmarkName) -> None:
    found = benchmark_named(name)
    assert found.repository.startswith("https://")
    assert len(found.commit) == 40
    assert found.most_images is None or found.images_per_prompt <= found.most_images


@pytest.mark.parametrize("name", get_args(BenchmarkName))
def test_what_needs_no_preparation_leaves_nothing(name: BenchmarkName, tmp_path: Path) -> None:
    benchmark_named(name).prepare(place_of(tmp_path, tmp_path), [])
    assert list(tmp_path.iterdir()) == []


def test_a_place_below_differs_in_its_folder_alone(tmp_path: Path) -> None:
    place = place_of(tmp_path, tmp_path)
    below = place.below("0123")
    assert below.images == tmp_path / "out/0123/images"
    assert below.results == tmp_path / "out/0123/results"
    assert below.below("..").num == place.num
