"""The benchmark of a name."""

from typing import assert_never

from mos.benchmarks.benchmark import Benchmark
from mos.benchmarks.config import BenchmarkName
from mos.benchmarks.geneval import GenEval


def benchmark_named(name: BenchmarkName) -> Benchmark:
    """What a config's name means."""
    match name:
        case "geneval":
            return GenEval()
    assert_never(name)
