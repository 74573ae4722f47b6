"""What a benchmark of a bare machine must not lose: rows already found, and the reason of those that are missing."""

import pytest

from mos.model.presets import MOS_S
from tests.benchmarks import harness
from tests.benchmarks.device.run import Run
from tests.benchmarks.device.shares import product_owner
from tests.benchmarks.harness import Row, keep_results


def test_rows_before_a_failure_and_after_it_are_kept(tmp_path):
    run = Run(60, lambda rows: keep_results("gpu", rows, "Some GPU", tmp_path))

    def fails_midway():
        yield Row("first", 1.0, "ms")
        raise AssertionError("a compiler's")

    run.measure("midway", 1, fails_midway)
    assert '"first"' in (tmp_path / "gpu.some-gpu.json").read_text(encoding="utf-8")
    run.measure("late", 1, lambda: [Row("second", 2.0, "ms")])
    run.measure("long", 100, lambda: [Row("third", 3.0, "ms")])
    assert list(run.rows) == ["first", "second"]
    assert run.skipped == ["midway: AssertionError: a compiler's", "long: out of time"]


def test_a_machine_without_git_has_an_unknown_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert harness.commit.__wrapped__() == "unknown"


@pytest.mark.parametrize(
    ("shapes", "owner"),
    [
        ([[1600, 4096], [4096, 2560]], "projection"),
        ([[4096, 1600], [1600, 2560]], "projection"),
        ([[8224, 2560], [2560, 14336]], "feed-forward products"),
        ([[9824, 4096], [4096, 1920]], "router products"),
        ([[9824, 2560], [2560, 5120]], None),
    ],
)
def test_products_are_told_apart_by_their_widths(shapes, owner):
    assert product_owner(shapes, MOS_S) == owner
